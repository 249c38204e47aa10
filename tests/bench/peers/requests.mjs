// What all peers share: when a peer is ready it writes ready-made requests for each name, as requests.lua reads them
// (whole, each ended by a NUL byte), and says so.
import { writeFileSync } from "node:fs"

export const [port, redisUrl, folder, count] = process.argv.slice(2)
export const base = `http://127.0.0.1:${port}`
export const USER_AGENT =
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126."

export function write(name, requests) {
  const whole = requests.map(({ method = "GET", path, headers = {}, body = "" }) => {
    const all = { Host: `127.0.0.1:${port}`, "User-Agent": USER_AGENT, ...headers }
    if (body) all["Content-Length"] = Buffer.byteLength(body)
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
    return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body}\0`
  })
  writeFileSync(`${folder}/${name}`, whole.join(""))
}

/** `act(number)` for each number below `total`, 50 at a time; what they return. */
export async function each(total, act) {
  const made = []
  for (let first = 0; first < total; first += 50) {
    const numbers = Array.from({ length: Math.min(50, total - first) }, (_, index) => first + index)
    made.push(...(await Promise.all(numbers.map(act))))
  }
  return made
}

/** The cookie that an answer sets, as a browser sends it back. */
export function cookie(answer) {
  const set = answer.headers.getSetCookie()
  if (!answer.ok || set.length === 0) throw new Error(`${answer.status} without a cookie`)
  return set[0].split(";")[0]
}

export const ready = () => console.log("ready")
