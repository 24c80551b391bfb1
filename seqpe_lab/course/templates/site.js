// The search: the index is a script of its own, loaded when a reader first types. It works from
// disk, where a page may not read other files except scripts.
const root = document.currentScript.dataset.root
const field = document.getElementById("search"), found = document.getElementById("found")

const loaded = () => loaded.once ??= new Promise((resolve, reject) => {
  const script = document.createElement("script")
  script.src = `${root}search_index.js`
  script.onload = () => resolve(window.seqpeSearchIndex)
  script.onerror = () => reject(new Error("the search index is missing"))
  document.head.append(script)
})

// A section matches if it has all words; those in headings count more.
function matches(sections, query) {
  const words = query.toLowerCase().split(/\s+/).filter(word => word)
  const score = section => {
    let sum = section.heading.toLowerCase() === query.toLowerCase() ? 100 : 0
    for (const word of words) {
      const inHeading = section.heading.toLowerCase().includes(word)
      const times = section.text.toLowerCase().split(word).length - 1
      if (!inHeading && !times) return 0
      sum += 20 * inHeading + Math.min(times, 10)
    }
    return sum
  }
  return sections.map(section => ({section, points: score(section)}))
    .filter(match => match.points).sort((a, b) => b.points - a.points)
    .slice(0, 12).map(match => match.section)
}

function excerpt(text, query) {
  const place = text.toLowerCase().indexOf(query.toLowerCase().split(/\s+/)[0])
  const start = Math.max(0, place - 50)
  return (start ? "… " : "") + text.slice(start, start + 150) + " …"
}

async function search() {
  const query = field.value.trim()
  found.hidden = query.length < 2
  if (found.hidden) return
  try {
    const sections = matches(await loaded(), query)
    const list = document.createElement("ol")
    for (const section of sections) {
      const item = document.createElement("li"), link = document.createElement("a")
      const words = document.createElement("span")
      link.href = root + section.page
      link.textContent = section.heading
      words.textContent = excerpt(section.text, query)
      item.append(link, words)
      list.append(item)
    }
    found.replaceChildren(sections.length ? list : "Nothing found.")
  } catch (error) {
    found.textContent = `The search failed: ${error.message}.`
  }
}

field.addEventListener("input", search)
document.addEventListener("keydown", event => {
  if (event.key === "Escape") found.hidden = true
  if (event.key === "/" && !/input|textarea|select/i.test(event.target.tagName)) {
    event.preventDefault()
    field.focus()
  }
})
