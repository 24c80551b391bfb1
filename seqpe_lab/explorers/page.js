// An explorer on a page: controls, picture, words, table, tour, link; in a notebook and without.
//
//     const page = seqpeExplorer(place, about, {ask, load, state, link, act})
//     page.set(changes); page.refresh(); page.close()
//
// about: Explorer.description(). ask(state, {narrow, table}) promises the answer to a state: title,
// caption, data, layout, words, table, limits (see explorer.py); it throws what is shown as an
// error. load promises Plotly; link(changed values) gives the text that opens this state again;
// act(name) is called by the buttons of ``about.actions``.
function seqpeExplorer(place, about, {ask, load, state: first = {}, link, act}) {
    const element = (tag, properties = {}, ...children) => {
        const made = Object.assign(document.createElement(tag), properties)
        if (/^(input|select|button|textarea|summary)$/.test(tag))  // keys are not for JupyterLab
            made.dataset.lmSuppressShortcuts = "true"
        made.append(...children)
        return made
    }
    const button = (name, title, onclick) => element("button", {type: "button", textContent: name,
        title, onclick})
    const defaults = Object.fromEntries(about.fields.map(field => [field.name, field.default]))
    const same = (a, b) => JSON.stringify(a) == JSON.stringify(b)
    let state = {...defaults, ...first}, asked = 0, stop = -1, narrow = false, playing

    // --- controls: for each kind of field, [elements, set(value), get(), allow(limit)]
    const at = (field, value) => field.options.findIndex(([option]) => option === value)
    const slider = (field, max) => element("input", {type: "range", min: 0, max, step: 1})
    const untilTyped = box => box.addEventListener("input", event => event.stopPropagation())
    const kinds = {
        choice(field) {
            const options = field.options.map(([, name], i) => element("option", {value: i, textContent: name}))
            const select = element("select", {}, ...options)
            return [[select], value => { select.value = at(field, value) },
                () => field.options[select.value][0], allowed => options.forEach((option, i) => {
                    option.hidden = option.disabled = !allowed.includes(field.options[i][0])
                })]
        },
        scale(field) {
            const range = slider(field, field.options.length - 1), output = element("output")
            const name = () => { output.value = field.options[range.value][1]
                range.setAttribute("aria-valuetext", output.value) }
            range.addEventListener("input", name)
            return [[range, output], value => { range.value = at(field, value); name() },
                () => field.options[range.value][0], most => {
                    range.max = field.options.findLastIndex(([option]) => option <= most)
                    name()
                }]
        },
        number(field) {
            const {min, max, step} = field, range = element("input", {type: "range", min, max, step})
            const box = element("input", {type: "number", min, max, step, ariaLabel: field.label})
            const set = value => { box.value = range.value = value; box.value = range.value }
            range.addEventListener("input", () => set(range.value))
            box.addEventListener("change", () => set(box.value === "" ? state[field.name] : box.value))
            untilTyped(box)
            return [[range, box], set, () => Number(range.value), most => {
                range.max = box.max = most
                box.value = range.value
            }]
        },
        text() {
            const box = element("input", {type: "text", spellcheck: false})
            untilTyped(box)
            return [[box], value => { box.value = value }, () => box.value]
        },
        picture(field) {  // 8 x 8 grey pixels, which are drawn, or those of a file
            const canvas = element("canvas", {width: 8, height: 8, ariaLabel: field.label})
            const context = canvas.getContext("2d", {willReadFrequently: true})
            const file = element("input", {type: "file", accept: "image/*", ariaLabel: "open a file"})
            let value = ""
            const show = drawing => Array.from((value = drawing).padEnd(64, "0"), (digit, i) => {
                context.fillStyle = `#${digit.repeat(6)}`
                context.fillRect(i % 8, Math.floor(i / 8), 1, 1)
            })
            const made = drawing => {
                show(drawing)
                canvas.dispatchEvent(new Event("input", {bubbles: true}))
            }
            const read = () => {
                const {data} = context.getImageData(0, 0, 8, 8)
                made(Array.from({length: 64}, (_, i) => Math.round((0.3 * data[4 * i] + 0.59
                    * data[4 * i + 1] + 0.11 * data[4 * i + 2]) / 17).toString(16)).join(""))
            }
            const draw = ({buttons, offsetX, offsetY}) => {
                if (!buttons) return
                context.fillStyle = "white"
                context.fillRect(Math.floor(8 * offsetX / canvas.clientWidth),
                    Math.floor(8 * offsetY / canvas.clientHeight), 1, 1)
            }
            canvas.addEventListener("pointerdown", draw)
            canvas.addEventListener("pointermove", draw)
            canvas.addEventListener("pointerup", read)
            untilTyped(file)
            file.addEventListener("change", async event => {
                event.stopPropagation()
                context.drawImage(await createImageBitmap(file.files[0]), 0, 0, 8, 8)
                read()
            })
            const clear = button("Clear", "show the digit again", event => {
                event.preventDefault()
                file.value = ""
                made("")
            })
            return [[canvas, file, clear], show, () => value]
        },
        flag() {
            const box = element("input", {type: "checkbox"})
            return [[box], value => { box.checked = value }, () => box.checked]
        },
        several(field) {
            const boxes = field.options.map(() => element("input", {type: "checkbox"}))
            const chips = boxes.map((box, i) => element("label", {}, box, field.options[i][1]))
            const each = action => field.options.forEach(([option], i) => action(option, i))
            return [chips, value => each((option, i) => { boxes[i].checked = value.includes(option) }),
                () => field.options.filter((_, i) => boxes[i].checked).map(([option]) => option),
                allowed => each((option, i) => { chips[i].hidden = !allowed.includes(option) })]
        },
        span(field) {
            const last = field.options.length - 1, output = element("output")
            const ends = ["from", "to"].map(end => Object.assign(
                slider(field, last), {ariaLabel: `${field.label}, ${end}`})), [from, to] = ends
            const name = () => { output.value = ends.map(end => field.options[end.value][1]).join(" to ") }
            from.addEventListener("input", () => { to.value = Math.max(to.value, from.value); name() })
            to.addEventListener("input", () => { from.value = Math.min(to.value, from.value); name() })
            return [[from, to, output], value => {
                ends.forEach((end, i) => { end.value = at(field, value[i]) })
                name()
            }, () => ends.map(end => field.options[end.value][0])]
        },
    }
    const help = element("p", {className: "seqpe-help", ariaHidden: "true"})
    const controls = {}
    for (const field of about.fields) {
        const [parts, set, get, allow] = kinds[field.kind](field)
        const many = field.kind == "several" || field.kind == "span"
        const box = element(many ? "fieldset" : "label", {title: field.help,
            className: `seqpe-field seqpe-${field.kind}`},
        element(many ? "legend" : "span", {textContent: field.label}), ...parts)
        for (const part of parts) part.ariaDescription = field.help
        if (field.play) box.append(button("▶", `play: ${field.label}`, event => {
            event.preventDefault()
            play(field, event.target)
        }))
        const explain = () => { help.textContent = `${field.label}: ${field.help}` }
        for (const event of ["pointerenter", "focusin"]) box.addEventListener(event, explain)
        box.addEventListener("input", () => change({[field.name]: get()}))
        box.addEventListener("change", () => change({[field.name]: get()}))
        box.addEventListener("keydown", event => {  // JupyterLab keeps Enter's own effect back
            if (event.key == "Enter" && /text|number/.test(event.target.type))
                event.target.dispatchEvent(new Event("change", {bubbles: true}))
        })
        controls[field.name] = {field, box, set, get, allow, parts}
    }

    function change(changes) {
        changes = {...state, ...changes}
        if (same(changes, state)) return
        state = changes
        for (const name of Object.keys(controls))
            if (!same(controls[name].get(), state[name])) controls[name].set(state[name])
        arrange()
        refresh()
    }
    function arrange() {  // which controls are visible
        for (const {field, box} of Object.values(controls))
            box.hidden = Object.entries(field.when ?? {}).some(
                ([other, values]) => !values.includes(state[other]))
    }
    function play(field, pressed) {
        if (playing) {
            clearInterval(playing)
            playing = null
            pressed.textContent = "▶"
            return
        }
        const range = controls[field.name].parts[0]
        if (Number(range.value) >= Number(range.max)) move(range.min)
        function move(value) {
            range.value = value
            range.dispatchEvent(new Event("input", {bubbles: true}))
        }
        pressed.textContent = "❚❚"
        playing = setInterval(() => {
            if (Number(range.value) >= Number(range.max) || !root.isConnected) play(field, pressed)
            else move(Number(range.value) + Number(range.step))
        }, 700)
    }

    // --- the parts of the page
    const root = element("section", {className: "seqpe-explorer", ariaLabel: about.title})
    const tour = element("div", {className: "seqpe-tour", hidden: true, role: "status"})
    const message = element("p", {className: "seqpe-message"})
    const title = element("h2", {className: "seqpe-title", ariaLive: "polite"})
    const picture = element("div", {className: "seqpe-plot", role: "img"})
    const caption = element("p", {className: "seqpe-caption"})
    const words = element("p", {className: "seqpe-words"})
    const sheet = element("details", {className: "seqpe-table"}, element("summary", {
        textContent: "The numbers behind the picture, to copy or to download"}), element("div"))
    sheet.addEventListener("toggle", () => sheet.open && refresh())
    const large = button("Large type", "for a lecture hall", () => {
        large.ariaPressed = String(root.classList.toggle("seqpe-large"))
        refresh()
    })
    const share = button("Copy link", "a text that opens this state again", async () => {
        const text = link(Object.fromEntries(Object.entries(state).filter(
            ([name, value]) => !same(value, defaults[name]))))
        say(text, "status")
        await navigator.clipboard?.writeText(text).catch(() => {})
    })
    const tools = element("div", {className: "seqpe-tools"}, share, large)
    if (about.tour.length) tools.prepend(button("Tour", "five stops", () => visit(stop < 0 ? 0 : -1)))
    const actions = element("div", {className: "seqpe-tools"}, ...Object.entries(about.actions).map(
        ([name, title]) => button(name, title, () => act(name))))
    root.append(element("header", {}, element("p", {
        innerHTML: `<b>${about.title}.</b> ${about.about}`}), tools), tour,
    element("div", {className: "seqpe-controls"}, ...Object.values(controls).map(({box}) => box)),
    help, actions, message, title, picture, caption, words, ...(about.table ? [sheet] : []))
    place.append(root)

    function visit(next) {
        stop = next
        tour.hidden = stop < 0
        if (stop < 0) return
        const {text, look, state: sets} = about.tour[stop]
        const go = (name, to) => Object.assign(button(name, "", () => visit(to)),
            {disabled: to >= about.tour.length || to < 0 && name == "Back"})
        tour.replaceChildren(element("p", {innerHTML: `<b>${stop + 1} of ${about.tour.length}.</b> `
            + `${text} <i>${look}</i>`}), element("div", {className: "seqpe-tools"},
        go("Back", stop - 1), go("Next", stop + 1), go("End the tour", -1)))
        change({...defaults, ...sets})
    }
    let stays = false  // whether a message outlasts the next picture
    function say(text, role, keep = false) {
        stays = keep
        message.textContent = text
        message.setAttribute("role", role)
        if (!text) message.removeAttribute("role")
    }

    // --- drawing
    const plot = seqpePlot(picture, load, {click(point) {
        const changes = {}
        for (const [name, key] of Object.entries(about.click)) {
            const {field} = controls[name], value = key in point ? point[key] : point.customdata?.[key]
            if (value == null) return
            changes[name] = field.kind == "number" ? Math.min(field.max, Math.max(
                field.min, Math.round(value / field.step) * field.step)) : value
        }
        if (Object.keys(changes).length) change(changes)
    }})
    async function refresh() {
        const number = ++asked
        try {
            const answer = await ask(state, {narrow, table: sheet.open})
            if (answer && number == asked) show(answer)
        } catch (error) {
            if (number == asked) say(error.message, "alert")  // the last good picture stays
        }
    }
    function show(answer) {
        if (message.getAttribute("role") == "alert" && !stays) say("")
        stays = false
        for (const [name, limit] of Object.entries(answer.limits)) controls[name].allow(limit)
        for (const made of actions.children) made.disabled = answer.disabled?.includes(made.textContent)
        title.innerHTML = answer.title
        picture.ariaLabel = title.textContent
        caption.innerHTML = answer.caption
        words.innerHTML = answer.words ?? ""
        plot.show(answer, {large: root.classList.contains("seqpe-large"), narrow})
        if (answer.table) sheet.lastChild.replaceChildren(...tableOf(answer.table))
    }
    function tableOf(columns) {
        const names = Object.keys(columns), count = columns[names[0]].length
        const quoted = value => /[",\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : value
        const row = i => names.map(name => columns[name][i])
        const text = [names, ...Array.from({length: count}, (_, i) => row(i))].map(
            line => line.map(quoted).join(",")).join("\n") + "\n"
        const cells = (tag, line) => element("tr", {}, ...line.map(value => element(tag, {
            textContent: typeof value == "number" && !Number.isInteger(value) ?
                value.toPrecision(4) : value})))
        const rows = Array.from({length: Math.min(count, 200)}, (_, i) => cells("td", row(i)))
        return [element("a", {download: `${about.name}.csv`, textContent: `Download ${about.name}.csv`,
            href: `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`}), " or copy: ",
        element("textarea", {readOnly: true, value: text, rows: 2, ariaLabel: "the table as text",
            onclick: event => event.target.select()}),
        element("table", {}, cells("th", names), ...rows),
        count > 200 ? `${count - 200} more rows are in the file.` : ""]
    }
    const themed = () => root.classList.toggle("seqpe-dark", seqpeDark())
    themed()
    const sized = new ResizeObserver(() => {  // before it is on the page its width is 0
        const now = picture.clientWidth > 0 && picture.clientWidth < 600
        if (now != narrow) {
            narrow = now
            refresh()
        }
    })
    sized.observe(picture)
    const watch = new MutationObserver(() => { themed(); refresh() })
    watch.observe(document.body, {attributeFilter: ["data-jp-theme-light"]})
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed)
    for (const name of Object.keys(controls)) controls[name].set(state[name])
    arrange()
    refresh()
    return {
        set: change, refresh, show, say,
        close() {
            clearInterval(playing)
            watch.disconnect()
            sized.disconnect()
            plot.close()
            root.remove()
        },
    }
}
