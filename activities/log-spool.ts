/**
 * What was received and is not archived yet, on the host of the connection. A spool has rooms, numbered: the receiver writes to the
 * newest one. A new room is made where the log has a hole, because a receiver goes on after what is in its directory.
 */
import { randomBytes } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { readable } from '../model/ids.ts'
import { finishedFiles, type SlotEnd } from '../model/log-stream.ts'
import { formatLsn, logFileOf, segmentHeadOf } from '../model/wal.ts'
import { vouchedFor } from '../storage/wal/archivers.ts'
import { expectLogFile, type LogArchiving, logArchiving } from '../storage/wal/archiving.ts'
import type { StreamWork } from './log-work.ts'

export interface Spool {
  /** Absolute; and relative to staging, where commands run. */
  room(): Promise<{ path: string; name: string }>
  /** From now on there is a new one. Answers the last file of the former. */
  newRoom(): Promise<string | null>
  bytes(): Promise<number>
  /**
   * Archives what is finished, in its order, and removes it. `end` other than `keep`: nobody goes on there, and all of it is. Throws
   * what the first file that could not be archived has met.
   */
  archive(going: () => boolean, end?: SlotEnd): Promise<void>
}

/** A destination in trouble is borne so long before that is said. */
const patienceSeconds = 5
const roomPattern = /^room-([1-9]\d*)$/

export function openSpool(work: StreamWork): Spool {
  const { context, operation } = work
  const { files } = context.host
  const root = context.host.stagingDir(operation)
  const pathOf = (room: string) => `${root}/${room}`
  const rooms = async (): Promise<string[]> =>
    (await files.list(root))
      .flatMap(name => roomPattern.exec(name)?.[1] ?? [])
      .sort((a, b) => Number(a) - Number(b))
      .map(number => `room-${number}`)
  const made = async (name: string) => {
    await files.ensureDirectory(root)
    await files.ensureDirectory(pathOf(name))
    return { path: pathOf(name), name }
  }
  /** Archived, and still there for the receiver. */
  const done = new Set<string>()
  let opened: Promise<LogArchiving> | undefined

  return {
    room: async () => await made((await rooms()).at(-1) ?? 'room-1'),
    async newRoom() {
      const newest = (await rooms()).at(-1) ?? 'room-0'
      const last = (await files.list(pathOf(newest))).filter(name => logFileOf(name)?.kind !== 'history')
      await made(`room-${Number(newest.slice('room-'.length)) + 1}`)
      return last.sort().at(-1) ?? null
    },
    bytes: () => files.size(root),
    async archive(going, end = 'keep') {
      const all = await rooms()
      for (const room of all) {
        const open = end === 'keep' && room === all.at(-1)
        for (const { name, stays } of finishedFiles(await files.list(pathOf(room)), open)) {
          if (!going()) return
          const path = `${pathOf(room)}/${name}`
          if (!done.has(path)) {
            opened ??= openArchiving(work)
            const archiving = await opened.catch(error => {
              opened = undefined
              throw error
            })
            await archiveOne(work, archiving, path, name)
          }
          if (stays) done.add(path)
          else {
            done.delete(path)
            await files.remove(path)
          }
        }
        if (room !== all.at(-1)) await files.remove(pathOf(room))
      }
    },
  }
}

/** Signed in the name of the installation, which holds the key; whoever trusts the installation needs to be told of no archiver. */
async function openArchiving({ context, turn, connection, wanted }: StreamWork): Promise<LogArchiving> {
  const { catalog } = context
  const { name, systemIdentifier } = connection
  const stream = { connection: name, systemIdentifier }
  const { installationId } = await catalog.writer()
  const trusted = await catalog.trustedInstallations()
  for (const one of wanted.destinations) {
    Object.assign(trusted, await vouchedFor(await context.destination(one), stream, trusted))
  }
  return logArchiving({
    stream,
    signer: { archiver: installationId, sign: header => catalog.signLogHeader(header) },
    trusted,
    patienceSeconds,
    newKey:
      wanted.recipients.length === 0
        ? null
        : async () => {
            const dataKey = randomBytes(32)
            const { jwe } = await catalog.wrapDataKey(dataKey.toString('base64url'), wanted.recipients)
            return { keyId: readable(randomBytes(12)), dataKey, jwe }
          },
    signal: turn.signal,
  })
}

async function archiveOne(
  { context, turn, connection, wanted, state }: StreamWork,
  archiving: LogArchiving,
  path: string,
  name: string,
): Promise<void> {
  const content = await buffer(context.host.files.read(path))
  const head = segmentHeadOf(content)
  // Of a segment of which nothing was received yet when its timeline, or the stream, ended.
  if (logFileOf(name)?.kind === 'partial' && head === undefined) return
  expectLogFile(path, { name, content }, connection.systemIdentifier)
  const destinations = await Promise.all(wanted.destinations.map(one => context.destination(one)))
  turn.assertLease()
  await archiving.put(destinations, { name, content })
  if (head === undefined || logFileOf(name)?.kind !== 'segment') return
  state.archivedLsn = formatLsn(head.start + BigInt(head.segmentBytes))
  state.archivedAt = new Date().toISOString()
}
