/**
 * Reading what a tool wrote, to its last byte: whether it is whole, and if not, where it is damaged. Every engine has
 * readers for its formats; they know nothing of stores, compression and encryption, and keep little in memory.
 */
import { HoldfastError } from '../model/errors.ts'
import type { Json } from '../model/types.ts'
import type { Command, CommandResult } from './engine.ts'

/** The bytes of one dump, in order. */
export interface Bytes {
  /** Where the next one lies in the dump. */
  readonly offset: number
  /** What is being read: said when the bytes end in the midst of it. */
  inside: string
  /** Exactly so many, at most 64 MiB. Throws `artifact.truncated` when there are fewer. */
  take(count: number): Promise<Buffer>
  /** What is at hand, at least one, at most `most`; undefined at the end. Good until the next call. */
  next(most?: number): Promise<Buffer | undefined>
  /** The next ones, without taking them; fewer at the end. */
  peek(count: number): Promise<Buffer>
  /** What is at hand, without taking it and without waiting; maybe nothing. */
  atHand(): Buffer
  /** Takes so many of what is at hand. */
  drop(count: number): void
}

/** Where in a dump something is wrong; goes into the error's context. */
export interface Place {
  /** Byte of the dump, before compression. */
  offset?: number
  line?: number
  table?: string
  row?: number
  /** Of an archive's table of contents. */
  entry?: number
  /** File within a tar or a directory. */
  member?: string
  /** The statement's first words. */
  statement?: string
}

/** The artifacts of the backup that is being read. */
export interface Siblings {
  /** The one that is being read. */
  readonly name: string
  readonly names: readonly string[]
  /** A small one, whole: at most 256 MiB. */
  whole(name: string): Promise<Buffer>
}

/** Somewhere for what a tool of the engine's is to look at. */
export interface Scratch {
  /** Absent where a file is read by itself. */
  readonly siblings?: Siblings
  /** The dump is this very file already, and need not be copied. */
  file: string | undefined
  /** Appends to a file there (relative, one level of folders at most). */
  append(file: string, chunk: Uint8Array): Promise<void>
}

/** A question to the engine's own tool about what was kept; run in the scratch directory. */
export interface ToolCheck {
  title: string
  command: Command
  /** A few words of what it said; throws what is wrong with the dump, and undefined when it could not tell. */
  read(result: CommandResult): string | undefined
}

/** What was read. */
export interface Findings {
  /** "PostgreSQL dump, custom format, of shop: 31 tables, 1,204,331 rows". */
  words: string
  /** Of the server that was dumped, where the dump says so. */
  serverVersion?: string
  database?: string
  toolCheck?: ToolCheck
}

export interface FormatReader {
  /** As manifests have it, e.g. `pgdump-custom`. */
  readonly format: string
  readonly title: string
  /** Whether something that begins with these bytes (up to 64 KiB) claims to be of this format. */
  claims(head: Buffer): boolean
  /** What the beginning of one says that a restore has to know and no manifest tells. Integers and strings. */
  facts?(head: Buffer): Record<string, Json>
  /** Suffixes of files that belong to one while it is in use: it is nothing whole without them. */
  readonly beside?: readonly string[]
  /**
   * Reads to the end. Throws `artifact.truncated` and `artifact.malformed`, with the place in the message and in the context.
   * Where it throws, not all bytes may have been taken.
   */
  read(bytes: Bytes, scratch: Scratch): Promise<Findings>
}

/** One file of a dump that is several. */
export interface Member {
  name: string
  bytes: number
  /** Where its content begins in the tar; 0 of a file in a directory. */
  offset: number
  /** To be read to its end before the next member is asked for. */
  content: AsyncIterable<Buffer>
}

/** A dump that is a directory. */
export interface DirectoryReader {
  readonly format: string
  readonly title: string
  claims(names: readonly string[]): boolean
  /** `members` in the order of their names. */
  read(members: AsyncIterable<Member>, scratch: Scratch): Promise<Findings>
}

const words = (place: Place): string =>
  [
    place.table === undefined ? '' : `table ${place.table}`,
    place.member === undefined ? '' : `file ${place.member}`,
    place.entry === undefined ? '' : `entry ${place.entry} of its table of contents`,
    place.row === undefined ? '' : `row ${place.row}`,
    place.line === undefined ? '' : `line ${place.line}`,
    place.statement === undefined ? '' : `in ${place.statement}`,
    place.offset === undefined ? '' : `byte ${place.offset}`,
  ]
    .filter(part => part !== '')
    .join(', ')

function damage(code: 'artifact.malformed' | 'artifact.truncated', what: string, place: Place) {
  const where = words(place)
  return new HoldfastError(code, `${what}${where === '' ? '' : ` (${where})`}.`, { context: { ...place } })
}

/** The bytes are there, and are not what they should be. `what` is a sentence without its full stop. */
export const malformed = (what: string, place: Place): HoldfastError =>
  damage('artifact.malformed', what, place)

/** The bytes end too early. */
export const cutShort = (what: string, place: Place): HoldfastError =>
  damage('artifact.truncated', what, place)

const mostAtOnce = 64 << 20

export function bytesOf(source: AsyncIterable<Buffer>): Bytes {
  const chunks = source[Symbol.asyncIterator]()
  let held: Buffer = Buffer.alloc(0)
  let offset = 0
  let inside = 'its beginning'
  const more = async (): Promise<boolean> => {
    for (;;) {
      const { done, value } = await chunks.next()
      if (done) return false
      if (value.length === 0) continue
      held = held.length === 0 ? value : Buffer.concat([held, value])
      return true
    }
  }
  const fill = async (count: number): Promise<boolean> => {
    if (held.length >= count) return true
    const pieces = [held]
    let there = held.length
    while (there < count) {
      const { done, value } = await chunks.next()
      if (done) break
      pieces.push(value)
      there += value.length
    }
    held = pieces.length === 1 ? held : Buffer.concat(pieces)
    return there >= count
  }
  const taken = (count: number): Buffer => {
    const piece = held.subarray(0, count)
    held = held.subarray(count)
    offset += count
    return piece
  }
  return {
    get offset() {
      return offset
    },
    get inside() {
      return inside
    },
    set inside(what) {
      inside = what
    },
    async take(count) {
      if (count > mostAtOnce) throw malformed(`${count} bytes are announced in ${inside}`, { offset })
      if (!(await fill(count))) {
        throw cutShort(`It ends inside ${inside}`, { offset: offset + held.length })
      }
      return taken(count)
    },
    async next(most = Number.POSITIVE_INFINITY) {
      if (most === 0 || (held.length === 0 && !(await more()))) return undefined
      return taken(Math.min(most, held.length))
    },
    atHand: () => held,
    drop(count) {
      taken(count)
    },
    async peek(count) {
      await fill(count)
      return held.subarray(0, count)
    },
  }
}

/** `1,204,331`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`
