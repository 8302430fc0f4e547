/**
 * JSON as we accept it: what `JSON.parse` accepts, but no name twice in one object (which of the two counts is anybody's
 * guess) and no `__proto__`. Throws `InvalidRequest` naming the place.
 */
import { HttpRefusal, InvalidRequest } from './problem.ts'

const deepest = 64

export function parseStrictJson(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The parser's message quotes the text, which may hold a password.
    throw new HttpRefusal(400, 'The body is not JSON.')
  }
  checkNames(text)
  return value
}

/** Walks the text, which is known to be valid JSON. */
function checkNames(text: string): void {
  interface Level {
    /** Names so far; undefined in a list. */
    names: Set<string> | undefined
    /** Name or index that we are at. */
    at: string
  }
  const levels: Level[] = []
  const place = (name: string) => [...levels.slice(0, -1).map(level => level.at), name].join('.')
  let expectsName = false
  for (let index = 0; index < text.length; index++) {
    const character = text[index]
    const level = levels.at(-1)
    if (character === '{' || character === '[') {
      if (levels.length === deepest) {
        throw new InvalidRequest([{ path: '', message: `nested deeper than ${deepest} levels` }])
      }
      levels.push({ names: character === '{' ? new Set() : undefined, at: '0' })
      expectsName = character === '{'
    } else if (character === '}' || character === ']') {
      levels.pop()
      expectsName = false
    } else if (character === ',') {
      expectsName = level?.names !== undefined
      if (level && !level.names) level.at = String(Number(level.at) + 1)
    } else if (character === '"') {
      const end = endOfString(text, index)
      if (expectsName && level?.names) {
        const name = String(JSON.parse(text.slice(index, end)))
        const path = place(name).slice(0, 200)
        if (name === '__proto__') throw new InvalidRequest([{ path, message: 'this name is not allowed' }])
        if (level.names.has(name)) throw new InvalidRequest([{ path, message: 'this field is there twice' }])
        level.names.add(name)
        level.at = name
        expectsName = false
      }
      index = end - 1
    }
  }
}

function endOfString(text: string, start: number): number {
  let index = start + 1
  while (text[index] !== '"') index += text[index] === '\\' ? 2 : 1
  return index + 1
}
