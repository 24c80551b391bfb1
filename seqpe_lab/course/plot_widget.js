// Plotly's JavaScript, once for a page, whatever notebooks it shows
function read(program) {
    const source = new Blob([program.get("text")], {type: "text/javascript"})
    return window.seqpePlotly ??= import(URL.createObjectURL(source)).then(() => window.Plotly)
}

export default {
    initialize({model}) {
        if (model.get("text")) read(model)  // the widget that holds it
    },
    render({model, el}) {
        const place = el.appendChild(document.createElement("div"))
        const program = () => model.widget_manager.get_model(model.get("program"))
        let plotly, drawn = "{}", listens = false, busy = false, gone = false
        async function catchUp() {  // one drawing at a time, and always the newest figure
            if (busy) return
            busy = true
            try {
                plotly ??= await read(await program())
                while (drawn !== model.get("figure")) {
                    await new Promise(requestAnimationFrame)
                    if (gone) return
                    drawn = model.get("figure")
                    const {data, layout} = JSON.parse(drawn)
                    await plotly.react(place, data, layout, {displaylogo: false})
                    if (!listens) place.on("plotly_click",
                        ({points: [{x, y}]}) => model.send({x, y}))
                    listens = true
                }
            } finally {
                busy = false
            }
        }
        model.on("change:figure", catchUp)
        catchUp()
        return () => {
            gone = true
            model.off("change:figure", catchUp)
            plotly?.purge(place)
        }
    },
}
