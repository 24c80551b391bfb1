// Templates of figures and texts, filled with numbers by the rules of templates.py
const seqpeFill = (() => {
    const place = /(?<!%)\{([A-Za-z][\w.]*)(?::([^{}]*))?\}/g
    const truth = value => typeof value?.length == "number" ? value.length > 0 : Boolean(value)

    const follow = (value, [name, ...rest]) => name === undefined ? value
        : name == "*" ? Array.from(value, each => follow(each, rest)) : follow(value[name], rest)

    function lookUp(path, scopes) {
        const [first, ...rest] = path.split(".")
        const scope = scopes.find(scope => scope != null && typeof scope == "object"
            && first in scope)
        if (!scope) throw new Error(`the template asks for '${path}', which is not among the numbers`)
        return follow(scope[first], rest)
    }
    function text(value, form = "") {
        if (typeof value != "number") return String(value)
        const [, comma, digits, kind] = /^(,?)(?:\.(\d+))?([f%g]?)$/.exec(form)
        if (kind == "%") value *= 100
        let written = kind == "g" ? String(Number(value.toPrecision(digits)))
            : digits || kind ? value.toFixed(digits ?? 0) : String(value)
        if (comma) {
            const [whole, ...rest] = written.split(".")
            written = [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".")
        }
        if (kind == "%") written += "%"
        return /[1-9]/.test(written) ? written.replace(/-/g, "−") : written.replace("-", "")
    }
    function repeated(part, scopes) {  // [[filled, scopes], ...]
        const rules = part !== null && typeof part == "object" && !ArrayBuffer.isView(part)
            && !Array.isArray(part) ? part : {}
        const around = "each" in rules ? Array.from(lookUp(rules.each, scopes), (item, i) =>
            [item, {item, number: i + 1, nth: i ? i + 1 : ""}, ...scopes]) : [scopes]
        return around.flatMap(inner => {
            if ("when" in rules && !truth(lookUp(rules.when, inner)))
                return "else" in rules ? repeated(rules.else, inner) : []
            if (!("value" in rules)) return [[fill(part, ...inner), inner]]
            return "each" in rules && Array.isArray(rules.value) ?
                rules.value.flatMap(value => repeated(value, inner)) : repeated(rules.value, inner)
        })
    }
    function fill(template, ...scopes) {
        if (typeof template == "string")
            return template.startsWith("@") ? lookUp(template.slice(1), scopes) : template.replace(
                place, (all, path, form) => text(lookUp(path, scopes), form))
        if (Array.isArray(template))
            return template.map(part => repeated(part, scopes)).flat().map(([filled]) => filled)
        if (template === null || typeof template != "object" || ArrayBuffer.isView(template))
            return template
        if ("join" in template) return fill(template.join, ...scopes).join(template.by ?? "")
        const filled = {}
        for (const [key, part] of Object.entries(template))
            if (!["when", "else", "each", "value"].includes(key))
                for (const [value, inner] of repeated(part, scopes))
                    filled[fill(key, ...inner)] = value
        return filled
    }
    return Object.assign(fill, {text})
})()
