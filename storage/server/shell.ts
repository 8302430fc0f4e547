/** What a `server` destination needs of its machine: a POSIX shell. hosts/ has them; whoever opens the destination brings one. */
import { readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'

export interface ServerShell {
  /** Of the host, for errors. */
  readonly name: string
  /**
   * Runs this text there, with these as its `$1`, `$2` … `long`: its output is read for as long as somebody likes; `short`
   * ones always end by themselves, and find room beside them.
   */
  script(text: string, words: readonly string[], size: 'short' | 'long'): Promise<ServerProcess>
}

export interface ServerProcess {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Its exit code; rejects when nobody can tell any more. */
  readonly gone: Promise<number>
  kill(): void
}

const text = (name: string) => readFileSync(new URL(`./sh/${name}.sh`, import.meta.url), 'utf8')
const common = text('common')

/** Verbs: put, stat, get, list, remove, sweep. */
export const objectsScript = common + text('objects')
/** Verbs: open, part, parts, hash, complete, uploads, abort. */
export const uploadsScript = common + text('uploads')

/** How the scripts end; see sh/common.sh. */
export const exits = { rootMissing: 3, absent: 4, short: 5, exists: 6, tooLarge: 7 } as const
