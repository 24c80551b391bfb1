// An explorer in a notebook: the kernel computes the answers
export default {
    render({model, el}) {
        let waiting = () => {}
        const asks = async (state, {narrow, table}) => {
            model.set({values: state, narrow, table})
            model.save_changes()  // the answer comes when the kernel has it
        }
        const page = seqpeExplorer(el, model.get("about"), {
            ask: asks, load: seqpeLoad(model), state: model.get("values"),
            link: changed => `explore("${model.get("about").name}?${new URLSearchParams(changed)}")`,
            act: name => model.send({event: "action", value: name}),
        })
        const on = {
            "change:answer"() {
                const {message, role, ...answer} = JSON.parse(model.get("answer"))
                if (answer.data) page.show(answer)
                if (message !== undefined) page.say(message, role)
            },
            "change:values": () => page.set(model.get("values")),
        }
        for (const [event, action] of Object.entries(on)) model.on(event, action)
        if (model.get("answer")) on["change:answer"]()
        return () => {
            for (const [event, action] of Object.entries(on)) model.off(event, action)
            page.close()
        }
    },
}
