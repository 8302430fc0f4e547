/**
 * The record of parts beside staged data: a file of JSON lines, 0600, one per attempt and artifact. `part` lines are made
 * durable before the part is sent, so that after a crash nobody can send other bytes under the same data key and nonces.
 */
import { dirname } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'

/** Files of the machine that the staged data lies on. */
export interface JournalFiles {
  ensureDirectory(path: string): Promise<void>
  readSmall(path: string): Promise<string | undefined>
  /** Whole, durable. */
  write(path: string, data: string): Promise<void>
  /** One line, durable. */
  append(path: string, line: string): Promise<void>
}

/** What is durably known about parts of an upload that is resumed. */
export interface PartJournal {
  known(number: number): { bytes: number; sha256: string; tag?: string } | undefined
  /** Durable when it resolves. Called before the part is sent. */
  record(number: number, part: { bytes: number; sha256: string }): Promise<void>
  /** The store has it. May be lost in a crash: the part is sent again then. */
  sent(number: number, tag: string): Promise<void>
}

interface Known {
  bytes: number
  sha256: string
  tag?: string
}

const number = z.int().positive()
const journalLine = z.union([
  z.strictObject({ part: number, bytes: z.int().positive(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  z.strictObject({ sent: number, tag: z.string() }),
])

/**
 * Opens or makes the journal at `path`. A line that a crash cut short is dropped. Throws `staging.changed` when the file is
 * damaged: then nothing is known of what was sent, and only a new attempt is safe. Nothing needs to be closed.
 */
export async function openJournal(files: JournalFiles, path: string): Promise<PartJournal> {
  await files.ensureDirectory(dirname(path))
  const parts = await readJournal(files, path)
  // One write after the other: lines of parts that are sent in parallel must not mix.
  let last: Promise<void> = Promise.resolve()
  const inTurn = (act: () => Promise<void>): Promise<void> => {
    const turn = last.then(act)
    last = turn.catch(() => {})
    return turn
  }
  return {
    known: part => parts.get(part),
    record: (part, { bytes, sha256 }) =>
      inTurn(async () => {
        await files.append(path, JSON.stringify({ part, bytes, sha256 }))
        parts.set(part, { bytes, sha256 })
      }),
    sent: (part, tag) =>
      inTurn(async () => {
        await files.append(path, JSON.stringify({ sent: part, tag }))
        const known = parts.get(part)
        if (known !== undefined) known.tag = tag
      }),
  }
}

async function readJournal(files: JournalFiles, path: string): Promise<Map<number, Known>> {
  const found = await files.readSmall(path)
  const text = found?.slice(0, found.lastIndexOf('\n') + 1) ?? ''
  if (text !== found) await files.write(path, text)
  const parts = new Map<number, Known>()
  for (const [index, line] of text.split('\n').slice(0, -1).entries()) {
    const entry = journalLine.safeParse(json(line))
    if (!entry.success) {
      throw new HoldfastError(
        'staging.changed',
        `Reading the record of sent parts ${path}: line ${index + 1} is damaged.`,
      )
    }
    if ('part' in entry.data) {
      parts.set(entry.data.part, { bytes: entry.data.bytes, sha256: entry.data.sha256 })
    } else {
      const known = parts.get(entry.data.sent)
      if (known !== undefined) known.tag = entry.data.tag
    }
  }
  return parts
}

function json(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
