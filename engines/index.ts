/** The engines there are. A new one is one folder and one line here. */
import { HoldfastError } from '../model/errors.ts'
import type { EngineName } from '../model/types.ts'
import type { Engine } from './engine.ts'
import { postgresql } from './postgresql/index.ts'
import type { DirectoryReader, FormatReader } from './reading.ts'
import { sqlite } from './sqlite/index.ts'

export const engines: Record<EngineName, Engine> = { sqlite, postgresql }

/** Throws `request.invalid` for a name that is no engine (names come from manifests, too). */
export function engineOf(name: string): Engine {
  const engine = Object.hasOwn(engines, name) ? engines[name as EngineName] : undefined
  if (engine) return engine
  throw new HoldfastError(
    'request.invalid',
    `There is no engine "${name}"; there are ${Object.keys(engines).join(' and ')}.`,
  )
}

/** The engine that reads this URL or path. Throws `request.invalid`; never repeats the URL, which may hold a password. */
export function engineForUrl(url: string): Engine {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()
  if (scheme === 'postgres' || scheme === 'postgresql') return postgresql
  if (scheme === undefined || scheme === 'sqlite' || scheme === 'sqlite3' || scheme === 'file') return sqlite
  throw new HoldfastError(
    'request.invalid',
    `url: no engine reads "${scheme}:" URLs; there are postgres://…, sqlite:/path and plain paths.`,
  )
}

export interface Claim<Reader> {
  engine: Engine
  reader: Reader
}

const directoryClaims = Object.values(engines).flatMap(engine =>
  engine.directoryReaders.map(reader => ({ engine, reader })),
)
const claims = Object.values(engines).flatMap(engine => engine.readers.map(reader => ({ engine, reader })))

/** Who reads a format, as manifests name it. Throws `artifact.unknown-format`. */
export function readerOf(format: string): FormatReader {
  const found = claims.find(({ reader }) => reader.format === format)
  if (found) return found.reader
  throw new HoldfastError('artifact.unknown-format', `No engine reads the format "${format}".`)
}

/** Whose dump begins with these bytes; undefined: nobody's. */
export const claimOf = (head: Buffer): Claim<FormatReader> | undefined =>
  claims.find(({ reader }) => reader.claims(head))

/** Whose dump is a directory with these files. */
export const directoryClaimOf = (names: readonly string[]): Claim<DirectoryReader> | undefined =>
  directoryClaims.find(({ reader }) => reader.claims(names))
