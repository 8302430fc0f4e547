/**
 * Reading a dump to its end with its engine's reader, and asking the engine's own tool about it. Knows no Temporal:
 * `holdfast diagnose` uses it too.
 */
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  bytesOf,
  type DirectoryReader,
  type Findings,
  type FormatReader,
  type Member,
  type Scratch,
  type Siblings,
  type ToolCheck,
} from '../engines/reading.ts'
import type { Host } from '../hosts/host.ts'
import { fileError } from '../hosts/index.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'

/** Where a dump is read: a machine for the tool, with staging for what the tool is to see. */
export interface ReadingPlace {
  host: Host
  operation: string
  signal: AbortSignal
  /** The dump is this file. */
  file?: string
  siblings?: Siblings
}

/** What of it was read, in words. Throws `artifact.*` with the place of the damage. */
export async function readWhole(
  reader: FormatReader,
  source: AsyncIterable<Buffer>,
  place: ReadingPlace,
): Promise<string> {
  const bytes = bytesOf(source)
  return await reading(place, async scratch => {
    try {
      const findings = await reader.read(bytes, scratch)
      await toTheEnd(bytes)
      return findings
    } catch (error) {
      // What the store gave may not be what was written: the end of the source tells, and then it is not the tool's fault.
      if (isOfTheDump(error)) await toTheEnd(bytes)
      throw error
    }
  }).then(words => `${reader.title}${words}`)
}

/** The same for a dump that is a directory of this machine. */
export const readMembers = async (
  reader: DirectoryReader,
  members: AsyncIterable<Member>,
  place: ReadingPlace,
): Promise<string> => `${reader.title}${await reading(place, scratch => reader.read(members, scratch))}`

const isOfTheDump = (error: unknown): boolean =>
  error instanceof HoldfastError && ['artifact.malformed', 'artifact.truncated'].includes(error.code)

async function toTheEnd(bytes: { next(): Promise<Buffer | undefined> }): Promise<void> {
  while ((await bytes.next()) !== undefined);
}

async function reading(place: ReadingPlace, read: (scratch: Scratch) => Promise<Findings>): Promise<string> {
  const { host, operation } = place
  const scratch = scratchIn(host.stagingDir(operation), place)
  await host.files.ensureDirectory(host.stagingDir(operation))
  let findings: Findings
  try {
    findings = await read(scratch)
  } finally {
    await scratch.close()
  }
  const said = findings.toolCheck && (await ask(place, findings.toolCheck))
  return [` ${findings.words}`, ...(said === undefined ? [] : [said])].join('; ')
}

async function ask({ host, operation, signal }: ReadingPlace, check: ToolCheck): Promise<string> {
  signal.throwIfAborted()
  const token = readable(randomBytes(8))
  const result = await host.run({ operation, step: 'ask', token }, check.command, { signal })
  return check.read(result) ?? `${check.title} could not be asked here`
}

/** Files that are appended to; not durable, as nothing is gone on with. */
function scratchIn(
  directory: string,
  { file, siblings }: Pick<ReadingPlace, 'file' | 'siblings'>,
): Scratch & { close(): Promise<void> } {
  const files = new Map<string, Promise<FileHandle>>()
  const begin = async (name: string) => {
    const path = join(directory, name)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await open(path, 'w', 0o600)
  }
  return {
    file,
    ...(siblings ? { siblings } : {}),
    async append(name, chunk) {
      let opened = files.get(name)
      if (!opened) {
        opened = begin(name)
        files.set(name, opened)
      }
      try {
        const handle = await opened
        for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at)).bytesWritten
      } catch (error) {
        throw fileError('Unpacking into', directory, error)
      }
    },
    async close() {
      for (const opened of files.values()) await opened.then(handle => handle.close()).catch(() => {})
    },
  }
}
