// The explorers on a page without a kernel. The address names what is shown: #digits?base=2
const explorers = {}  // {name: stored => ({compute(state), actions})}, by the explorers' scripts
const seqpeFiles = {}  // {name: the promise of a file's bytes, and what keeps it}

function seqpeArrived(name, text) {  // called by the file itself
    const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    const digit = new Uint8Array(128), length = Math.floor(text.length * 4 / 5)  // base 85
    Array.from(letters, (letter, i) => { digit[letter.charCodeAt(0)] = i })
    const whole = text.padEnd(5 * Math.ceil(text.length / 5), "~")
    const view = new DataView(new ArrayBuffer(whole.length * 4 / 5))
    for (let i = 0, o = 0; i < whole.length; o += 4) {
        let value = 0
        for (const end = i + 5; i < end; i++) value = 85 * value + digit[whole.charCodeAt(i)]
        view.setUint32(o, value)
    }
    const bytes = view.buffer.slice(0, length)
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
    seqpeFiles[name].keep(new Response(stream).arrayBuffer())
}
function seqpeFile(name) {
    if (!seqpeFiles[name]) {
        let keep, fail
        const bytes = new Promise((kept, failed) => { keep = kept; fail = failed })
        seqpeFiles[name] = {bytes, keep}
        const script = document.createElement("script")
        script.src = `${name}.js`
        script.onerror = () => fail(new Error(`${name}.js is missing beside this page`))
        document.head.append(script)
    }
    return seqpeFiles[name].bytes
}
let seqpePlotlyHere
const seqpePlotly = () => seqpePlotlyHere ??= seqpeFile("plotly").then(bytes => {
    const script = document.createElement("script")
    script.textContent = new TextDecoder().decode(bytes)
    document.head.append(script)
    return window.Plotly
})
function seqpeUnpack(bytes) {  // what ``pack`` of static_page.py has written
    const [length, fours, twos, ones] = new Uint32Array(bytes, 0, 4), start = 16 + length
    const counts = {4: fours, 2: twos, 1: ones}
    const starts = {4: start, 2: start + 4 * fours, 1: start + 4 * fours + 2 * twos}
    const all = new Uint8Array(bytes)
    const half = bits => (bits >> 15 ? -1 : 1) * (bits & 0x7c00 ?
        2 ** ((bits >> 10 & 31) - 25) * (bits & 1023 | 1024) : 2 ** -24 * (bits & 1023))
    const kinds = {uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
        int32: Int32Array, float16: Uint16Array, float32: Float32Array}
    return JSON.parse(new TextDecoder().decode(all.subarray(16, start)), (key, value) => {
        if (!value?.array) return value
        const [type, shape, first] = value.array, size = kinds[type].BYTES_PER_ELEMENT
        const together = new Uint8Array(shape.reduce((a, b) => a * b, size))
        for (let byte = 0; byte < size; byte++)  // the planes of the elements' bytes
            for (let i = byte, from = starts[size] + byte * counts[size] + first;
                i < together.length; i += size) together[i] = all[from++]
        const array = new kinds[type](together.buffer)
        return Object.assign(type == "float16" ? Float32Array.from(array, half) : array, {shape})
    })
}

const seqpeComputations = {}
const seqpeComputation = name => seqpeComputations[name] ??= seqpeFile(name).then(
    bytes => explorers[name](seqpeUnpack(bytes)))

async function seqpeAnswer({about, template}, state, {narrow = false, table = false} = {}) {
    const numbers = await (await seqpeComputation(about.name)).compute(state)
    const chosen = about.fields.filter(({kind}) => kind == "choice" || kind == "scale")
    const names = Object.fromEntries(chosen.map(({name, options}) => [name,
        options.find(([option]) => option === state[name])?.[1]]))
    const {table: columns, ...rest} = template
    return {...seqpeFill(table ? template : rest, {...numbers, state}, state, {names, narrow}),
        limits: numbers.limits ?? {}, disabled: numbers.disabled ?? []}
}

function seqpeStart(place, all) {
    const readers = {
        number: Number, flag: text => text == "1", text: text => text, picture: text => text,
        choice: (text, known) => known.find(option => String(option) == text),
        several: (text, known) => text.split(",").filter(Boolean).map(
            part => readers.choice(part, known)),
    }
    Object.assign(readers, {scale: readers.choice, span: readers.several})
    function read(query, fields) {  // the state of an address, as ``from_link`` of fields.py
        const state = {}
        for (const [name, text] of new URLSearchParams(query)) {
            const field = fields.find(field => field.name == name)
            const known = field?.options?.map(([option]) => option)
            const value = field && readers[field.kind](text, known)
            if (value === undefined || [value].flat().some(part => part === undefined)
                || field.kind == "number" && !(value >= field.min && value <= field.max))
                throw new Error(`this address has ${name}=${text}, which cannot be chosen`)
            state[name] = value
        }
        return state
    }
    const written = changed => new URLSearchParams(Object.entries(changed).map(([name, value]) =>
        [name, typeof value == "boolean" ? Number(value) : value]))
    let page
    async function open() {
        const [name, query] = location.hash.slice(1).split("?")
        const {about, template} = all[name] ?? Object.values(all)[0]
        for (const link of document.querySelectorAll("nav a"))
            link.toggleAttribute("aria-current", link.hash == `#${about.name}`)
        page?.close()
        let state = {}, wrong
        try {
            state = read(query, about.fields)
        } catch (error) {
            wrong = error.message
        }
        const ask = (state, how) => seqpeAnswer(all[about.name], state, how)
        page = seqpeExplorer(place, about, {ask, state, load: seqpePlotly,
            link: changed => `${location.href.split("#")[0]}#${about.name}?${written(changed)}`,
            act: async name => (await seqpeComputation(about.name)).actions[name](page.refresh, page)})
        if (wrong) page.say(wrong, "alert", true)
    }
    addEventListener("hashchange", open)
    open()
}
