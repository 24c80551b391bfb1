// The widgets of plot_widget.py; comes after plot.js
export default {
    initialize({model}) {
        if (model.get("text")) seqpeProgram(model)  // the widget that holds it
    },
    render({model, el}) {
        const place = el.appendChild(document.createElement("div"))
        const tell = event => value => model.send({event, value})
        const plot = seqpePlot(place, seqpeLoad(model), {
            click: tell("click"), select: tell("select"), relayout: tell("relayout")})
        const show = () => plot.show(JSON.parse(model.get("figure")))
        model.on("change:figure", show)
        show()
        return () => {
            model.off("change:figure", show)
            plot.close()
        }
    },
}
