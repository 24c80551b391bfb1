// The collapse explorer on a page without a kernel: collapse_training.js trains in a worker
explorers.collapse = stored => {
    const collapsed = 0.1, smallest = 1e-8  // as in collapse_panel.py
    const program = new Blob([stored.program], {type: "text/javascript"})
    const worker = new Worker(URL.createObjectURL(program))
    const firsts = {}
    let records = [], apart, seed, begun, running = false, state, waiting = Promise.resolve()
    const sent = value => ArrayBuffer.isView(value) ? {shape: value.shape, data: value}
        : value?.constructor == Object ? Object.fromEntries(Object.entries(value).map(
            ([name, part]) => [name, sent(part)])) : value
    worker.postMessage({stored: sent(stored)})  // a message would lose the shapes of arrays

    const send = message => waiting = waiting.then(() => new Promise((done, fail) => {
        worker.onmessage = ({data}) => done(data)
        worker.onerror = ({message}) => fail(new Error(message))
        worker.postMessage(message)
    }))
    async function begin() {  // what a seed's untrained encoder shows is computed once
        const asked = seed = state.seed, made = send({seed}), first = await (firsts[seed] ??= made)
        if (seed != asked) return  // there is another one meanwhile
        records = [first.record]
        apart = first.apart
    }
    async function learn() {
        if (records.at(-1).step >= stored.mostSteps)
            throw new Error(`${stored.mostSteps} steps are done: press Reset to begin again`)
        const {alpha, beta, rate} = state, before = records
        const next = await send({alpha, beta, rate})
        if (records !== before) return  // it was reset meanwhile
        records.push(next.record)
        apart = next.apart
    }
    const actions = {
        async Start(redraw, page) {
            running = true
            redraw()
            try {
                while (running) {
                    await learn()
                    redraw()  // while the next steps are computed
                }
            } catch (error) {
                running = false
                await redraw()
                page.say(error.message, "alert")
            }
        },
        Pause(redraw) { running = false; redraw() },
        async Step(redraw, page) {
            await learn().then(redraw, error => page.say(error.message, "alert"))
        },
        async Reset(redraw) { running = false; await (begun = begin()); redraw() },
    }
    return {actions, async compute(asked) {
        state = asked
        if (seed !== state.seed) begun = begin()
        await begun  // another move may come before the worker has answered
        const z = state.z - 1, now = records.at(-1)
        const changes = records.slice(1, -1).filter((r, i) => ["alpha", "beta", "rate"].some(
            name => r[name] != records[i + 2][name])).map(r => ({at: r.step}))
        const [mantissa, exponent] = now.l_ood.toExponential(1).replace("-", "−").split("e")
        return {
            records, now, collapsed: now.spread < collapsed, apart, changes,
            shifts: now.cosines.map((_, i) => i + 1), here: now.cosines[z],
            cosines: records.map(r => r.cosines[z]), l_ood: records.map(r => Math.max(r.l_ood, smallest)),
            ood: `${mantissa} · 10<sup>${exponent.replace("+", "")}</sup>`,
            end: Math.max(40, now.step), top: 1.06 * Math.max(...records.map(r => r.effective_rank)),
            disabled: running ? ["Start", "Step"] : ["Pause"],
        }
    }}
}
