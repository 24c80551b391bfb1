// One plotly figure on a page that can be replaced many times a second.
//
//     const plot = seqpePlot(place, load, {click, select, relayout})
//     plot.show({data, layout}, {large: false, narrow: false})
//     plot.close()
//
// place: an empty element; load: a function that promises Plotly. What a reader does arrives as
// click({x, y, customdata, and what the trace's meta holds}), select([first x, last x]) and relayout({property: value, ...}).
// One drawing is made at a time, always of the newest figure. The figure is as wide as the page
// has room for, and light or dark as the page is; ``large`` enlarges it for a lecture hall; with
// another ``narrow`` it is placed anew. Zooms are kept while the axes have the same titles, hidden
// traces while the legend has the same names.
const seqpeDark = () => document.body.dataset.jpThemeLight ?
    document.body.dataset.jpThemeLight == "false" : matchMedia("(prefers-color-scheme: dark)").matches

function seqpeLook(dark) {
    const [ink, paper, grid] = dark ? ["#e8e8e8", "#1c1c1c", "#3a3a3a"] : ["#2a3f5f", "#fff", "#e2e6ee"]
    const axis = {gridcolor: grid, linecolor: grid, zerolinecolor: grid, zerolinewidth: 2,
        automargin: true, title: {standoff: 12}, ticklabeloverflow: "allow"}  // else each is measured
    const scene = {...axis, backgroundcolor: paper, showbackground: true, automargin: undefined}
    return {layout: {paper_bgcolor: paper, plot_bgcolor: paper, font: {color: ink}, xaxis: axis,
        yaxis: axis, scene: {xaxis: scene, yaxis: scene, zaxis: scene},
        hoverlabel: {align: "left"}, legend: {bgcolor: dark ? "rgba(28,28,28,0.8)" : undefined}}}
}

function seqpeEqual(a, b) {
    if (!a || !b || typeof a != "object" || a.constructor != b.constructor) return Object.is(a, b)
    if (Array.isArray(a) || ArrayBuffer.isView(a))
        return a.length == b.length && a.every((part, i) => seqpeEqual(part, b[i]))
    const keys = Object.keys(a)
    return keys.length == Object.keys(b).length && keys.every(key => seqpeEqual(a[key], b[key]))
}

// A figure's data with black as white
function seqpeInverted(value) {
    if (typeof value == "string") return /^(#000000|#111111|black)$/.test(value) ? "#ffffff" : value
    if (!value || typeof value != "object" || ArrayBuffer.isView(value)
        || typeof value[0] == "number") return value
    return Array.isArray(value) ? value.map(seqpeInverted) : Object.fromEntries(
        Object.entries(value).map(([key, part]) => [key, seqpeInverted(part)]))
}

function seqpePlot(place, load, on = {}) {
    const frame = place.appendChild(document.createElement("div"))
    let plotly, newest, drawn, last, width, busy = false, gone = false, listens = false, shown = {}

    function laidOut({data, layout}) {
        const scale = shown.large ? 1.4 : 1
        width = place.clientWidth
        const axes = Object.entries(layout).filter(([name]) => /^.axis/.test(name))
        const titles = axes.map(([, axis]) => axis.title?.text ?? axis.title ?? "")
        titles.push("scene" in layout, layout.uirevision ?? "")  // all 3-D scenes are one space
        const legend = {...layout.legend, uirevision: JSON.stringify(
            data.map(trace => [trace.name, trace.xaxis]))}  // plotly knows traces by their place
        Object.assign(frame.style, {width: `${width / scale}px`, transformOrigin: "0 0",
            transform: shown.large ? `scale(${scale})` : ""})
        place.style.height = `${layout.height * scale}px`
        return {...layout, width: Math.floor((width || 960) / scale), legend, uirevision: titles.join("; "),
            template: seqpeLook(seqpeDark()),
            font: {family: "Arial, DejaVu Sans, sans-serif", size: 13, ...layout.font}}
    }
    async function catchUp() {
        if (busy || !newest) return
        busy = true
        try {
            plotly ??= await load()
            while (newest !== drawn) {
                await new Promise(requestAnimationFrame)
                if (gone) return
                drawn = newest
                const data = seqpeDark() ? seqpeInverted(drawn.data) : drawn.data
                const figure = {data, layout: laidOut(drawn)}, same = seqpeEqual(figure, last)
                last = figure  // plotly writes into the copy
                if (!same) await plotly.react(frame, data, structuredClone(figure.layout), {
                    displaylogo: false, showSendToCloud: false})  // nothing leaves this machine
                if (!listens) listen()
            }
        } finally {
            busy = false
        }
    }
    function listen() {
        listens = true
        frame.on("plotly_click", ({points: [{x, y, customdata, data: {meta}}]}) =>
            on.click?.({x, y, customdata, ...meta}))
        frame.on("plotly_selected", event => event?.range?.x && on.select?.(event.range.x))
        frame.on("plotly_relayout", changes => on.relayout?.(changes))
    }
    const again = () => { drawn = null; catchUp() }
    const resized = new ResizeObserver(() => {
        if (place.clientWidth && drawn && place.clientWidth != width) again()
    })
    resized.observe(place)
    const scheme = matchMedia("(prefers-color-scheme: dark)")
    scheme.addEventListener("change", again)
    return {
        show(figure, how = {}) {
            if (JSON.stringify(how) != JSON.stringify(shown)) last = null  // all is placed anew
            newest = figure
            shown = how
            drawn = null
            catchUp()
        },
        close() {
            gone = true
            resized.disconnect()
            scheme.removeEventListener("change", again)
            plotly?.purge(frame)
        },
    }
}

// Plotly's JavaScript in a notebook: once for a page, whatever notebooks it shows
function seqpeProgram(program) {
    const source = new Blob([program.get("text")], {type: "text/javascript"})
    return window.seqpePlotly ??= import(URL.createObjectURL(source)).then(() => window.Plotly)
}
const seqpeLoad = model => async () =>
    seqpeProgram(await model.widget_manager.get_model(model.get("program")))
