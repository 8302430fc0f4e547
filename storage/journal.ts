/**
 * The record of parts beside staged data: a file of JSON lines, 0600, one per attempt and artifact. `part` lines are made
 * durable before the part is sent, so that after a crash nobody can send other bytes under the same data key and nonces.
 */
import { constants } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'

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
export async function openJournal(path: string): Promise<PartJournal> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const parts = await readJournal(path)
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
        await append(path, { part, bytes, sha256 }, 'durable')
        parts.set(part, { bytes, sha256 })
      }),
    sent: (part, tag) =>
      inTurn(async () => {
        await append(path, { sent: part, tag }, 'hint')
        const known = parts.get(part)
        if (known !== undefined) known.tag = tag
      }),
  }
}

async function readJournal(path: string): Promise<Map<number, Known>> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  let text: string
  try {
    text = await file.readFile('utf8')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    if (whole.length < text.length) {
      await file.truncate(Buffer.byteLength(whole))
      await file.sync()
    }
    if (whole === '') await syncDirectory(dirname(path))
    text = whole
  } finally {
    await file.close()
  }
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

async function append(path: string, line: object, how: 'durable' | 'hint'): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_APPEND)
  try {
    await file.appendFile(`${JSON.stringify(line)}\n`)
    if (how === 'durable') await file.datasync()
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC') {
      throw new HoldfastError('staging.full', `Recording a part in ${path}: no space left.`, { cause })
    }
    throw cause
  } finally {
    await file.close()
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
