/**
 * The record of parts beside staged data: a file of JSON lines, 0600. The first line names the upload; `part` lines are made
 * durable before the part is sent, so that after a crash nobody can send other bytes under the same data key and nonces.
 */
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../model/errors.ts'
import type { PartJournal } from './parts.ts'

const headLine = z.strictObject({ journal: z.literal(1), key: z.string(), uploadId: z.string() })
const number = z.int().positive()
const partLine = z.union([
  z.strictObject({ part: number, bytes: z.int().positive(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  z.strictObject({ sent: number, tag: z.string() }),
])

export interface JournalFile extends PartJournal {
  close(): Promise<void>
}

/**
 * Opens or makes the journal of this upload. A line that a crash cut short is dropped. Throws `staging.changed` when the file
 * is another upload's or is damaged: then nothing is known of what was sent, and only a new attempt is safe.
 */
export async function openJournal(
  path: string,
  upload: { key: string; uploadId: string },
): Promise<JournalFile> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o600)
  try {
    const text = await file.readFile('utf8')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    const parts = parse(whole, path, upload)
    if (whole.length < text.length) await file.truncate(Buffer.byteLength(whole))
    if (whole === '') {
      await append(file, { journal: 1, key: upload.key, uploadId: upload.uploadId })
      await file.datasync()
      await syncDirectory(dirname(path))
    }
    return journalOver(file, parts)
  } catch (error) {
    await file.close()
    throw error
  }
}

function journalOver(file: FileHandle, parts: Map<number, Known>): JournalFile {
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
        await append(file, { part, bytes, sha256 })
        await file.datasync()
        parts.set(part, { bytes, sha256 })
      }),
    sent: (part, tag) =>
      inTurn(async () => {
        await append(file, { sent: part, tag })
        const known = parts.get(part)
        if (known !== undefined) parts.set(part, { ...known, tag })
      }),
    close: () => inTurn(() => file.close()),
  }
}

type Known = { bytes: number; sha256: string; tag?: string }

function parse(text: string, path: string, upload: { key: string; uploadId: string }): Map<number, Known> {
  const unusable = (what: string) =>
    new HoldfastError('staging.changed', `Reading the record of sent parts ${path}: ${what}.`)
  const parts = new Map<number, Known>()
  const [head, ...lines] = text.split('\n').slice(0, -1)
  if (head === undefined) return parts
  const owner = headLine.safeParse(json(head))
  if (!owner.success) throw unusable('its first line is damaged')
  if (owner.data.key !== upload.key || owner.data.uploadId !== upload.uploadId) {
    throw unusable('it belongs to another upload')
  }
  for (const [index, line] of lines.entries()) {
    const entry = partLine.safeParse(json(line))
    if (!entry.success) throw unusable(`line ${index + 2} is damaged`)
    if ('sent' in entry.data) {
      const known = parts.get(entry.data.sent)
      if (known !== undefined) known.tag = entry.data.tag
    } else {
      parts.set(entry.data.part, { bytes: entry.data.bytes, sha256: entry.data.sha256 })
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

async function append(file: FileHandle, line: object): Promise<void> {
  const data = Buffer.from(`${JSON.stringify(line)}\n`)
  let written = 0
  while (written < data.length) written += (await file.write(data, written)).bytesWritten
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
