/**
 * What is wrong with the archiving of a server, from one look to the next: pure. An alarm stands until a look no longer finds
 * it; what could not be looked at changes nothing.
 */
import { type ArchivingFacts, usualBacklog, waitingSegments } from './archiving.ts'
import type { ErrorCode } from './errors.ts'
import type { LogStreamRecord } from './log-stream.ts'

export interface Alarm {
  code: Extract<
    ErrorCode,
    | ('wal.failing' | 'wal.behind' | 'wal.disk' | 'wal.off' | 'wal.unwatched' | 'wal.gap' | 'wal.no-base')
    | ('wal.not-streamed' | 'wal.spool-full' | 'wal.slot' | 'wal.slot-lost')
  >
  detail: string
  since: string
  /** Somebody was told of it. */
  told: boolean
}

/** The hole after the newest base backup, in the archive that reaches furthest. */
export interface SeenGap {
  destination: string
  /** Its first missing segment, of which timeline. */
  first: string
  /** What is lost for good, once there is another base backup. */
  from: string
}

export interface LogSeen {
  destination: string
  hasBase: boolean
  gap: SeenGap | null
}

export interface Watched {
  lookedAt: string
  /** When the server last answered; null: never. */
  answeredAt: string | null
  /** Looks since then in which it did not. */
  missed: number
  facts: ArchivingFacts | null
  freeBytes: number | null
  /** Its log is streamed, whatever the server says of archiving. */
  streamed?: true
  /** When the archives were last listed; null: never. */
  listedAt: string | null
  /** null: there is no archive of it. */
  log: LogSeen | null
  alarms: Alarm[]
  /** The base backup that a gap was answered with. */
  base: { gap: SeenGap; operation: string } | null
  /** The base backup that was made because a recovered copy has become the server. */
  renewed: { timeline: number; operation: string } | null
}

/** One look. `undefined`: it could not be asked. */
export interface LogLook {
  at: string
  server: { facts: ArchivingFacts; freeBytes: number | null } | undefined
  /** null: no archive. */
  log: LogSeen | null | undefined
  /** It is streamed, or is to be. Absent: it is not. */
  stream?: Pick<LogStreamRecord, 'state' | 'slotLimitBytes' | 'createdAt'>
}

/** Tries that failed before anybody is told: PostgreSQL makes as many in a row. */
const failuresToTell = 3
const dayMs = 86_400_000

export function watched(before: Watched | undefined, look: LogLook): Watched {
  const log = look.log === undefined ? (before?.log ?? null) : look.log
  const now: Watched = {
    lookedAt: look.at,
    answeredAt: look.server ? look.at : (before?.answeredAt ?? null),
    missed: look.server ? 0 : (before?.missed ?? 0) + 1,
    facts: look.server?.facts ?? before?.facts ?? null,
    freeBytes: look.server?.freeBytes ?? null,
    ...(look.stream ? { streamed: true } : {}),
    listedAt: look.log === undefined ? (before?.listedAt ?? null) : look.at,
    log,
    alarms: [],
    base: before?.base ?? null,
    renewed: before?.renewed ?? null,
  }
  const found = { ...ofServer(before, now, look), ...ofStream(now, look), ...ofLog(before, log, look) }
  const alarms = Object.entries(found).map(([code, detail]) => {
    const known = before?.alarms.find(one => one.code === code)
    return {
      code: code as Alarm['code'],
      detail,
      since: known?.since ?? look.at,
      told: known?.told ?? false,
    }
  })
  return { ...now, alarms }
}

type Found = Partial<Record<Alarm['code'], string>>

/** Whether it is ours to watch: it archives by Holdfast, or did. */
export const isWatched = (before: Watched | undefined, look: LogLook): boolean =>
  look.stream !== undefined ||
  (look.log ?? before?.log ?? null) !== null ||
  look.server?.facts.by === 'holdfast' ||
  before?.facts?.by === 'holdfast'

function ofServer(
  before: Watched | undefined,
  { log, missed, answeredAt }: Watched,
  { at, server, stream }: LogLook,
): Found {
  if (server === undefined) {
    // One look that failed is no news. What was wrong before may still be.
    const standing = (before?.alarms ?? []).filter(({ code }) => !ofArchive.has(code) && !streamed.has(code))
    const known = Object.fromEntries(standing.map(({ code, detail }) => [code, detail]))
    if (missed < 2) return known
    return {
      ...known,
      'wal.unwatched': `How it archives could not be asked since ${answeredAt ?? 'it is watched'}.`,
    }
  }
  const { facts, freeBytes } = server
  if (facts.mode === 'off' || facts.by !== 'holdfast') {
    const disk = stream && diskTrouble(before, facts, freeBytes, at)
    if (stream) return disk === undefined ? {} : { 'wal.disk': disk }
    return log === null && before?.facts?.by !== 'holdfast'
      ? {}
      : {
          'wal.off': `The log was archived by Holdfast, and is not any more: archive_mode is ${facts.mode}, archived by ${facts.by}.`,
        }
  }
  const waiting = waitingSegments(facts)
  const found: Found = {}
  if (facts.failingSeconds !== null && facts.failed >= failuresToTell) {
    found['wal.failing'] =
      `Archiving has failed for ${facts.failingSeconds} s, ${facts.failed} times in all; ${waiting ?? 'some'} segments wait in pg_wal.`
  }
  const waited = before?.facts ? waitingSegments(before.facts) : undefined
  if ((waiting ?? 0) > usualBacklog && (waited ?? 0) > usualBacklog) {
    found['wal.behind'] =
      `${waiting} segments wait in pg_wal, ${waited} at the look before: the archive is behind.`
  }
  const disk = diskTrouble(before, facts, freeBytes, at)
  if (disk !== undefined) found['wal.disk'] = disk
  return found
}

const streamed: ReadonlySet<string> = new Set([
  'wal.not-streamed',
  'wal.spool-full',
  'wal.slot',
  'wal.slot-lost',
])
/** A worker says how it is every few seconds; a restart of it is no news. */
const silenceMs = 120_000
/** What is in the way of receiving or archiving may pass: a server that is restarted, a store that hiccups. */
const borneMs = 60_000

function ofStream({ log, listedAt }: Watched, { at, stream }: LogLook): Found {
  if (stream === undefined) return {}
  const { state, slotLimitBytes, createdAt } = stream
  const now = Date.parse(at)
  const found: Found = {}
  const said = state?.at ?? createdAt
  if (now - Date.parse(said) > silenceMs) {
    found['wal.not-streamed'] =
      `Nobody has said since ${said} how far its streaming is: no worker of its host is at it.`
    return found
  }
  if (state === null) return found
  const { receiveTrouble, archiveTrouble, slot, lost } = state
  const lasts = (trouble: typeof receiveTrouble) =>
    trouble !== null && now - Date.parse(trouble.since) > borneMs ? trouble : undefined
  const receiving = lasts(receiveTrouble)
  if (state.held !== null && receiveTrouble) found['wal.spool-full'] = receiveTrouble.detail
  else if (receiving) {
    found['wal.not-streamed'] =
      `Its log is not received (${receiving.code}, since ${receiving.since}): ${receiving.detail}`
  }
  const archiving = lasts(archiveTrouble)
  if (archiving) {
    found['wal.failing'] =
      `What is received cannot be archived (${archiving.code}, since ${archiving.since}): ${archiving.detail}`
  }
  if (slot?.retainedBytes != null && slot.retainedBytes > slotLimitBytes) {
    found['wal.slot'] =
      `The slot makes the server keep ${megabytes(slot.retainedBytes)}, the limit is ${megabytes(slotLimitBytes)}.`
  }
  // It stands until the archive was listed since, and has no hole after its newest base backup.
  const listed = lost !== null && listedAt !== null && Date.parse(listedAt) > Date.parse(lost.at) + borneMs
  if (lost !== null && !(listed && log?.gap === null)) {
    found['wal.slot-lost'] =
      `The server removed log after ${lost.after ?? 'what was received'} before it was streamed, seen ${lost.at}.`
  }
  return found
}

const ofArchive: ReadonlySet<string> = new Set(['wal.gap', 'wal.no-base'])

function diskTrouble(
  before: Watched | undefined,
  { walBytes, maxWalBytes }: ArchivingFacts,
  freeBytes: number | null,
  at: string,
): string | undefined {
  if (walBytes === null) return undefined
  const then = before?.facts?.walBytes ?? null
  const grown = then === null ? 0 : walBytes - then
  const since = before?.answeredAt ?? null
  const tookMs = since === null ? 0 : Date.parse(at) - Date.parse(since)
  if (freeBytes !== null && grown > 0 && tookMs > 0 && walBytes > maxWalBytes) {
    const leftMs = (freeBytes / grown) * tookMs
    if (leftMs < dayMs) {
      return `pg_wal is ${megabytes(walBytes)} and grows: its disk is full in about ${Math.max(1, Math.round(leftMs / 60_000))} minutes.`
    }
  }
  return walBytes > 2 * maxWalBytes
    ? `pg_wal is ${megabytes(walBytes)}, more than twice max_wal_size: something keeps it (archiving, a slot, wal_keep_size).`
    : undefined
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`

function ofLog(before: Watched | undefined, log: LogSeen | null, look: LogLook): Found {
  if (log === null) return {}
  // What was not listed now is as it was.
  if (look.log === undefined) {
    const standing = (before?.alarms ?? []).filter(({ code }) => ofArchive.has(code))
    return Object.fromEntries(standing.map(({ code, detail }) => [code, detail]))
  }
  const found: Found = {}
  if (!log.hasBase) {
    found['wal.no-base'] =
      `No physical backup reaches into the log in ${log.destination}: no moment of it can be recovered.`
  }
  if (log.gap !== null) {
    found['wal.gap'] =
      `${log.gap.first} is missing in ${log.gap.destination}: nothing after ${log.gap.from} can be recovered until there is another base backup.`
  }
  return found
}

/**
 * The gap that is to be answered with a base backup: it was there when the archive was listed before, so that what was on its
 * way has come, and what was missing was not archived again.
 */
export function gapToAnswer(before: Watched | undefined, now: Watched): SeenGap | undefined {
  const gap = now.log?.gap
  if (!gap || now.listedAt !== now.lookedAt) return undefined
  const then = before?.log?.gap
  return then && then.first === gap.first && then.destination === gap.destination ? gap : undefined
}

/**
 * The timeline that a server archives on, when it is time to look whether a base backup was made on it: after it has changed, and
 * with every listing. undefined: it is not, or its archive goes by another connection's name.
 */
export function timelineToLookAt(before: Watched | undefined, now: Watched): number | undefined {
  const pushes = now.facts?.by === 'holdfast' && now.facts.mode !== 'off'
  if (now.answeredAt !== now.lookedAt || now.log === null || !(pushes || now.streamed)) return undefined
  const timeline = now.facts ? timelineOf(now.facts) : undefined
  const former = before?.facts
  const then = former && (former.by === 'holdfast' || before.streamed) ? timelineOf(former) : undefined
  return timeline !== then || now.listedAt === now.lookedAt ? timeline : undefined
}

const timelineOf = ({ current }: ArchivingFacts): number | undefined =>
  current === null ? undefined : Number.parseInt(current.slice(0, 8), 16)
