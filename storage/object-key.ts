/**
 * Which keys are good in every kind of destination. A key that only some stores take would make a backup that cannot be
 * copied to another one.
 */
import { HoldfastError } from '../model/errors.ts'

/** Kept for ourselves at the root of local destinations; refused as a first segment everywhere. */
export const uploadsFolder = '.holdfast-uploads'
/** `check` works below it. */
export const precheckFolder = '.holdfast-precheck'

const maxKeyBytes = 1024
const maxSegmentBytes = 255

/** What is wrong with the segment, in words; undefined if nothing. */
export function segmentTrouble(segment: string): string | undefined {
  if (segment === '') return 'has an empty segment (a leading, trailing or doubled "/")'
  if (segment === '.' || segment === '..') return `has "${segment}" as a segment`
  if (/\p{Cc}/u.test(segment)) return 'holds a control character'
  if (!segment.isWellFormed()) return 'is not well-formed Unicode'
  if (Buffer.byteLength(segment) > maxSegmentBytes) return `has a segment over ${maxSegmentBytes} bytes`
  return undefined
}

/** Throws `request.invalid` unless the key is good everywhere. */
export function checkKey(key: string): void {
  const trouble = key
    .split('/')
    .map(segmentTrouble)
    .find(found => found !== undefined)
  if (trouble !== undefined) refuse(key, trouble)
  // Azure takes it for a slash.
  if (key.includes('\\')) refuse(key, 'holds a backslash')
  if (Buffer.byteLength(key) > maxKeyBytes) refuse(key, `is over ${maxKeyBytes} bytes`)
  if (key.split('/', 1)[0] === uploadsFolder) refuse(key, `lies in ${uploadsFolder}, which is ours`)
}

/** A prefix is the beginning of a key: possibly empty, possibly ending in the middle of a segment. */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  const segments = prefix.split('/')
  // The last segment may be unfinished: '', '.' and '..' may still become something good.
  const unfinished = segments.pop() ?? ''
  const trouble = segments.map(segmentTrouble).find(found => found !== undefined)
  if (trouble !== undefined) refuse(prefix, trouble)
  if (/\p{Cc}/u.test(unfinished)) refuse(prefix, 'holds a control character')
}

/** The order in which every destination lists: by the bytes of the UTF-8 key, as S3 does. */
export const compareKeys = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

function refuse(key: string, trouble: string): never {
  throw new HoldfastError('request.invalid', `The object key ${JSON.stringify(key)} ${trouble}.`)
}

/**
 * Puts into our order what a store lists in the order of UTF-16 code units, as some do. The two differ only between keys
 * that have the same beginning up to a code unit from U+D800 on: those, which follow each other in either order, are held
 * back and sorted; nothing else is.
 */
export async function* inKeyOrder<T extends { key: string }>(listed: AsyncIterable<T>): AsyncGenerator<T> {
  let run: T[] = []
  let begins: string | undefined
  for await (const one of listed) {
    const high = one.key.search(/[\ud800-\uffff]/)
    const beginning = high < 0 ? undefined : one.key.slice(0, high)
    if (beginning === undefined || beginning !== begins) {
      yield* run.sort((a, b) => compareKeys(a.key, b.key))
      run = []
    }
    begins = beginning
    if (beginning === undefined) yield one
    else run.push(one)
  }
  yield* run.sort((a, b) => compareKeys(a.key, b.key))
}
