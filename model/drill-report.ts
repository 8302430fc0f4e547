/**
 * What a drill has shown, as a document for somebody who was not there. Signed by the installation; numbers are integers, so that
 * its canonical form is that of manifests.
 */
import { z } from 'zod'
import { type Canary, canarySchema } from './canary.ts'
import type { BackupRecord, DrillInput, OperationRecord, RestoreInput } from './records.ts'
import { instantOf, targetWords } from './recovery-time.ts'
import { type Replayed, replayedSchema } from './replayed.ts'
import type { PhaseRecord } from './types.ts'

const time = z.string()
const ms = z.int().nonnegative()

export const isDrill = (input: OperationRecord['input'] | RestoreInput): input is DrillInput =>
  'drill' in input

/**
 * What a recovery goes through. Of a streamed restore the download is part of `restore`; the log that a backup brings itself is
 * replayed as part of `prove`, that of an archive by itself.
 */
export const rtoSteps = ['detect', 'download', 'restore', 'replay', 'prove'] as const
export type RtoStep = (typeof rtoSteps)[number]

const check = z.strictObject({
  id: z.string(),
  title: z.string(),
  answer: z.enum(['pass', 'warn', 'fail']),
  detail: z.string(),
  hint: z.string().optional(),
  code: z.string().optional(),
})

export const drillReportSchema = z.strictObject({
  format: z.literal('holdfast-drill/1'),
  installationId: z.string(),
  /** Ed25519 (JWK), of the key that signs this, and its fingerprint: whoever knows that from elsewhere needs nothing else. */
  publicKey: z.record(z.string(), z.string()),
  fingerprint: z.string(),
  /** The id of its operation. */
  drill: z.string(),
  verdict: z.enum(['passed', 'failed', 'cancelled']),
  startedAt: time,
  endedAt: time,
  backup: z.strictObject({
    id: z.string(),
    connection: z.string(),
    engine: z.string(),
    method: z.string(),
    type: z.string(),
    database: z.string(),
    serverVersion: z.string(),
    encrypted: z.boolean(),
    toolBytes: z.int(),
    storedBytes: z.int(),
    startedAt: time,
    endedAt: time,
    /** Of its connection, when the drill began. */
    newest: z.boolean(),
  }),
  target: z.strictObject({
    connection: z.string(),
    /** The copy was made on the very server that was backed up: nothing is shown of another machine. */
    sameServer: z.boolean(),
    /** Queries, limits and depth that were asked for. */
    thorough: z.boolean(),
    maxSeconds: z.int().nullable(),
    /** The image whose programs started the copy; null: those of the host. */
    image: z.string().nullable(),
  }),
  /** Until the copy was proven; its examination and removal are no part of a recovery. */
  rto: z.strictObject({
    /** null: it was never proven. */
    totalMs: ms.nullable(),
    steps: z.array(z.strictObject({ step: z.enum(rtoSteps), ms })),
  }),
  /** How old what came back was when the drill began: by the row that was written before the backup, by the last transaction that was replayed, or by the backup's own times. */
  rpo: z.strictObject({ dataAsOf: time, ageMs: ms, by: z.enum(['canary', 'backup', 'replay']) }),
  /** Instead of a backup as it is: to where its server's log was replayed over it. */
  moment: z
    .strictObject({
      /** As it was asked for: "time 2026-11-22T03:14:00Z". */
      target: z.string(),
      /** null: it never came so far. */
      replayed: replayedSchema.nullable(),
    })
    .nullable(),
  /** That row, as it was found in the copy; null: none was written, or it was not looked for. */
  canary: canarySchema.nullable(),
  phases: z.array(
    z.strictObject({
      phase: z.string(),
      state: z.string(),
      startedAt: time,
      endedAt: time.nullable(),
      /** Of that time it stood still. */
      heldMs: ms,
      summary: z.string().nullable(),
    }),
  ),
  checks: z.array(check),
  /** Of the copy, by table; at most a thousand tables. */
  rows: z.array(
    z.strictObject({
      table: z.string(),
      rows: z.int(),
      /** As the server's statistics had them just before the backup; null: the manifest says nothing of it. */
      expected: z.int().nullable(),
    }),
  ),
  error: z.strictObject({ code: z.string(), detail: z.string(), hint: z.string() }).nullable(),
  warnings: z.array(z.string()),
  /** null: what it had made was still there when this was written. */
  tornDownAt: time.nullable(),
})
/** `signature`: a compact JWS (EdDSA) with detached payload, as that of a manifest. */
export const signedDrillReportSchema = drillReportSchema.extend({ signature: z.string() })

export type DrillReport = z.infer<typeof drillReportSchema>
export type SignedDrillReport = z.infer<typeof signedDrillReportSchema>

/** Which part of a recovery a phase of the operation is. */
export const stepOf: Readonly<Record<string, RtoStep | undefined>> = {
  plan: 'detect',
  precheck: 'detect',
  fetch: 'download',
  restore: 'restore',
  replay: 'replay',
  prove: 'prove',
}

/** What stood still is nobody's recovery time. */
function lasted({ startedAt, endedAt, heldMs = 0 }: PhaseRecord): number {
  return endedAt === undefined ? 0 : Math.max(0, Date.parse(endedAt) - Date.parse(startedAt) - heldMs)
}

export function rtoOf(phases: readonly PhaseRecord[]): DrillReport['rto'] {
  const steps = rtoSteps.map(step => ({
    step,
    ms: phases.filter(({ phase }) => stepOf[phase] === step).reduce((sum, one) => sum + lasted(one), 0),
  }))
  const proven = phases.some(({ phase, state }) => phase === 'prove' && state === 'done')
  return { totalMs: proven ? steps.reduce((sum, one) => sum + one.ms, 0) : null, steps }
}

/** A snapshot is of the time at which it was begun; what is replayed reaches the end of the backup. */
const dataAsOf = ({ manifest }: Pick<BackupRecord, 'manifest'>): string =>
  manifest.consistency === 'point-in-time' ? manifest.endedAt : manifest.startedAt

export const rpoOf = (
  backup: Pick<BackupRecord, 'manifest'>,
  { canary, replayed }: { canary: Canary | null; replayed: Replayed | null },
  startedAt: string,
): DrillReport['rpo'] => {
  const last = replayed?.lastTransactionAt == null ? undefined : instantOf(replayed.lastTransactionAt)
  const [by, asOf] =
    last !== undefined
      ? (['replay', last] as const)
      : canary
        ? (['canary', canary.writtenAt] as const)
        : (['backup', dataAsOf(backup)] as const)
  return { dataAsOf: asOf, ageMs: Math.max(0, Date.parse(startedAt) - Date.parse(asOf)), by }
}

/** Of a closed operation; undefined of one that is open. */
export const verdictOf = (state: OperationRecord['state']): DrillReport['verdict'] | undefined =>
  state === 'succeeded' || state === 'partial'
    ? 'passed'
    : state === 'failed' || state === 'cancelled'
      ? state
      : undefined

/** `drill`: a closed one. */
export function drillReportOf(
  by: Pick<DrillReport, 'installationId' | 'publicKey' | 'fingerprint'>,
  drill: OperationRecord,
  backup: BackupRecord,
  kept: Pick<DrillReport, 'rows' | 'canary' | 'tornDownAt'> & { replayed: Replayed | null },
): DrillReport {
  const { input, endedAt, error } = drill
  const verdict = verdictOf(drill.state)
  if (!isDrill(input) || verdict === undefined || endedAt === null) {
    throw new Error(`${drill.id} is no drill that has ended`)
  }
  return {
    format: 'holdfast-drill/1',
    ...by,
    drill: drill.id,
    verdict,
    startedAt: drill.createdAt,
    endedAt,
    backup: {
      id: backup.id,
      connection: backup.connection,
      engine: backup.engine,
      method: backup.method,
      type: backup.type,
      database: backup.database,
      serverVersion: backup.manifest.server.version,
      encrypted: backup.encrypted,
      toolBytes: backup.toolBytes,
      storedBytes: backup.storedBytes,
      startedAt: backup.startedAt,
      endedAt: backup.endedAt,
      newest: input.drill.newest,
    },
    target: {
      connection: input.targetConnection,
      sameServer: sameServer(input, backup),
      thorough: input.drill.thorough,
      maxSeconds: input.drill.maxSeconds,
      image: input.drill.container?.image ?? null,
    },
    rto: rtoOf(drill.phases),
    rpo: rpoOf(backup, kept, drill.createdAt),
    moment: input.recovery ? { target: targetWords(input.recovery), replayed: kept.replayed } : null,
    canary: kept.canary,
    phases: drill.phases.map(phase => ({
      phase: phase.phase,
      state: phase.state,
      startedAt: phase.startedAt,
      endedAt: phase.endedAt ?? null,
      heldMs: phase.heldMs ?? 0,
      summary: phase.summary ?? null,
    })),
    checks: drill.checks,
    rows: kept.rows,
    error: error && { code: error.code, detail: error.detail, hint: error.hint },
    warnings: drill.warnings,
    tornDownAt: kept.tornDownAt,
  }
}

const sameServer = ({ serverIdentity }: RestoreInput, backup: BackupRecord): boolean =>
  serverIdentity === backup.serverIdentity
