/** What a file or a directory is, and whether it is whole. */
import { createReadStream } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readMembers, readWhole } from '../../activities/reading.ts'
import {
  beginningOf,
  firstOf,
  type Opening,
  unwrapped,
  type Wrapping,
  wrappingOf,
} from '../../activities/wrapping.ts'
import { claimOf, directoryClaimOf } from '../../engines/index.ts'
import type { Member } from '../../engines/reading.ts'
import { type ErrorFacts, HoldfastError } from '../../model/errors.ts'
import { documentOf } from './document.ts'

export interface Diagnosis {
  path: string
  bytes: number
  /** e.g. `pgdump-custom`; null: not known. */
  format: string | null
  engine: string | null
  /** What it is, in words. */
  what: string
  compression: Wrapping | null
  encrypted: boolean
  /** `not-read`: only its beginning was looked at. */
  state: 'whole' | 'damaged' | 'unknown' | 'not-read'
  /** What was read of it. */
  detail: string
  /** Why it is damaged, or not known; with the place in its context. */
  error: ErrorFacts | null
}

const documentBytes = 16 << 20

export async function diagnose(path: string, deep: boolean, opening: Opening): Promise<Diagnosis> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    const missing = error.code === 'ENOENT' || error.code === 'ENOTDIR'
    throw new HoldfastError(
      missing ? 'request.not-found' : 'request.invalid',
      missing ? `There is no ${path}.` : `${path} cannot be read: ${error.message}.`,
    )
  })
  const blank = { path, bytes: found.size, engine: null, compression: null, encrypted: false, error: null }
  if (found.isDirectory()) return await directory(path, blank, deep, opening)
  const head = await beginningOf(path)
  const document = found.size <= documentBytes ? documentOf(await readText(path, head)) : undefined
  if (document) {
    const { format, title, wrong, words } = document
    const what = `${title}${words === '' ? '' : ` ${words}`}`
    return wrong === undefined
      ? { ...blank, format, what, state: 'whole', detail: 'every field is there' }
      : { ...blank, format, what, state: 'damaged', detail: wrong, error: damaged('manifest.invalid', wrong) }
  }
  const compression = wrappingOf(head)
  if (compression === undefined && isSealed(path, head, found.size)) {
    return {
      ...blank,
      format: 'tink',
      what: 'encrypted artifact of Holdfast (Tink AES256_GCM_HKDF_1MB)',
      encrypted: true,
      state: 'not-read',
      detail: `Whether it is whole can be told with its manifest and key: holdfast recover FOLDER --key FILE --out FILE`,
    }
  }
  return await dump(path, { ...blank, compression: compression ?? null }, head, deep, opening)
}

type Blank = Omit<Diagnosis, 'format' | 'what' | 'state' | 'detail'>

async function dump(
  path: string,
  blank: Blank,
  head: Buffer,
  deep: boolean,
  opening: Opening,
): Promise<Diagnosis> {
  const compression = blank.compression ?? undefined
  const packed = compression === undefined ? '' : `, compressed by ${compression}`
  try {
    const begins = compression === undefined ? head : await firstOf(unwrapped(path, compression, opening))
    const claim = claimOf(begins)
    if (!claim) return unknown(blank, packed)
    const { engine, reader } = claim
    const known = { ...blank, format: reader.format, engine: engine.name, what: `${reader.title}${packed}` }
    if (!deep) return { ...known, state: 'not-read', detail: 'It begins as one; --deep reads it to its end.' }
    return await outcome(known, () =>
      readWhole(reader, unwrapped(path, compression, opening), {
        ...opening,
        ...(compression === undefined ? { file: path } : {}),
      }),
    )
  } catch (error) {
    if (!isFinding(error)) throw error
    return { ...unknown(blank, packed), state: 'damaged', detail: error.message, error: error.facts() }
  }
}

const unknown = (blank: Blank, packed: string): Diagnosis => {
  const detail = 'It is of no format that Holdfast knows.'
  const what = `unknown${packed}`
  return {
    ...blank,
    format: null,
    what,
    state: 'unknown',
    detail,
    error: damaged('artifact.unknown-format', detail),
  }
}

async function directory(path: string, blank: Blank, deep: boolean, opening: Opening): Promise<Diagnosis> {
  const names = (await readdir(path)).sort()
  if (names.includes('manifest.json')) {
    const inner = await diagnose(join(path, 'manifest.json'), false, opening)
    return {
      ...inner,
      path,
      what: `folder of a backup: ${inner.what}`,
      state: inner.state === 'damaged' ? 'damaged' : 'not-read',
      detail:
        inner.state === 'damaged'
          ? inner.detail
          : `Verify it, or read it with its key: holdfast recover ${path} --key FILE --out FILE`,
    }
  }
  const claim = directoryClaimOf(names)
  if (!claim) return unknown(blank, '')
  const { engine, reader } = claim
  const sizes = await Promise.all(names.map(async name => (await stat(join(path, name))).size))
  const bytes = sizes.reduce((sum, size) => sum + size, 0)
  const known = { ...blank, bytes, format: reader.format, engine: engine.name, what: reader.title }
  if (!deep) return { ...known, state: 'not-read', detail: 'It has the files of one; --deep reads them.' }
  return await outcome(known, () =>
    readMembers(reader, membersIn(path, names, sizes), { ...opening, file: path }),
  )
}

async function* membersIn(path: string, names: string[], sizes: number[]): AsyncGenerator<Member> {
  for (const [index, name] of names.entries()) {
    const content = createReadStream(join(path, name), { highWaterMark: 1 << 20 })
    yield { name, bytes: sizes[index] ?? 0, offset: 0, content }
    content.destroy()
  }
}

async function outcome(
  known: Omit<Diagnosis, 'state' | 'detail'>,
  read: () => Promise<string>,
): Promise<Diagnosis> {
  try {
    return { ...known, state: 'whole', detail: await read() }
  } catch (error) {
    if (!isFinding(error)) throw error
    const state = error.code === 'artifact.unknown-format' ? 'unknown' : 'damaged'
    return { ...known, state, detail: error.message, error: error.facts() }
  }
}

const isFinding = (error: unknown): error is HoldfastError =>
  error instanceof HoldfastError && error.code.startsWith('artifact.')

const damaged = (code: 'manifest.invalid' | 'artifact.unknown-format', detail: string): ErrorFacts =>
  new HoldfastError(code, detail).facts()

const readText = async (path: string, head: Buffer): Promise<string> =>
  /^\s*\{/.test(head.toString('utf8', 0, 64)) ? await readFile(path, 'utf8') : ''

/** Its first byte is the length of its header; the rest is random. */
const isSealed = (path: string, head: Buffer, bytes: number): boolean =>
  head[0] === 40 && bytes >= 56 && (basename(path).endsWith('.tink') || claimOf(head) === undefined)
