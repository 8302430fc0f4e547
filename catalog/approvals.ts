/**
 * Approvals: a second, authenticated "yes", bound to one stored plan, used once by one run. The row is what counts; what a
 * workflow is told is only an id, which is looked up here.
 */
import { randomBytes } from 'node:crypto'
import type { Selectable } from 'kysely'
import { type ErrorCode, HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import type { ApprovalRecord, ApprovalVerdict } from '../model/records.ts'
import { type AuditOutcome, audit } from './audit.ts'
import type { CatalogDatabase } from './dialect.ts'
import type { Catalog } from './open.ts'
import { isClosed } from './operations.ts'
import type { CatalogTables } from './schema.ts'

/** What is asked for, with the operation that it is about. */
export interface ApprovalRequest {
  requestedBy: string
  /** null: by a token that is nobody's. */
  requestedUser: string | null
  reason: string | null
  expiresAt: string
}

export async function insertApproval(
  tx: CatalogDatabase,
  operationId: string,
  request: ApprovalRequest,
): Promise<void> {
  await tx
    .insertInto('approvals')
    .values({
      operation_id: operationId,
      state: 'planning',
      requested_by: request.requestedBy,
      requested_user: request.requestedUser,
      requested_at: new Date().toISOString(),
      request_reason: request.reason,
      expires_at: request.expiresAt,
      plan_digest: null,
      target_name: null,
      approval_id: null,
      decided_by: null,
      decided_at: null,
      decision_reason: null,
      break_glass: 0,
      used_by_run: null,
      used_at: null,
    })
    .execute()
}

export async function findApproval(
  db: CatalogDatabase,
  operationId: string,
): Promise<ApprovalRecord | undefined> {
  const row = await db
    .selectFrom('approvals')
    .selectAll()
    .where('operation_id', '=', operationId)
    .executeTakeFirst()
  return row && toApproval(row)
}

/** Those that wait for somebody, the oldest first. */
export async function waitingApprovals(catalog: Catalog): Promise<ApprovalRecord[]> {
  const rows = await catalog.db
    .selectFrom('approvals')
    .selectAll()
    .where('state', '=', 'waiting')
    .orderBy('requested_at')
    .execute()
  return rows.map(toApproval)
}

/** Open operations whose decision was written down: their workflow may not have heard of it. */
export async function decidedUnheard(catalog: Catalog): Promise<ApprovalRecord[]> {
  const rows = await catalog.db
    .selectFrom('approvals')
    .innerJoin('operations', 'operations.id', 'approvals.operation_id')
    .selectAll('approvals')
    .where('approvals.state', 'in', ['approved', 'rejected'])
    .where('operations.state', '=', 'awaiting-approval')
    .execute()
  return rows.map(toApproval)
}

/** The plan is made: from now on somebody may say yes to it. Asking again changes nothing. */
export async function wantApproval(
  catalog: Catalog,
  operationId: string,
  wanted: { planDigest: string; targetName: string },
): Promise<{ expiresAt: string }> {
  return await catalog.transaction(async tx => {
    const approval = await readApproval(tx, operationId)
    if (approval.state === 'planning') {
      await tx
        .updateTable('approvals')
        .set({ state: 'waiting', plan_digest: wanted.planDigest, target_name: wanted.targetName })
        .where('operation_id', '=', operationId)
        .execute()
      await tx
        .updateTable('operations')
        .set({ state: 'awaiting-approval' })
        .where('id', '=', operationId)
        .where('state', 'in', ['queued', 'running'])
        .execute()
    }
    return { expiresAt: approval.expiresAt }
  })
}

export interface Decision {
  decision: 'approved' | 'rejected'
  by: string
  reason: string
  breakGlass: boolean
  /** The plan and the name that whoever decides has seen; null when rejecting. */
  seen: { planDigest: string; targetName: string } | null
}

/** Throws `approval.*`: nothing is decided then. */
export async function decide(
  catalog: Catalog,
  operationId: string,
  decision: Decision,
): Promise<ApprovalRecord> {
  return await catalog.transaction(async tx => {
    const approval = await readApproval(tx, operationId)
    if (approval.state !== 'waiting') throw notWaiting(approval)
    if (isOver(approval)) throw expired(approval)
    const { seen } = decision
    if (seen && seen.targetName !== approval.targetName) {
      throw new HoldfastError(
        'approval.name',
        `Approving ${operationId}: the name that was typed is not the name of the target.`,
      )
    }
    if (seen && seen.planDigest !== approval.planDigest) {
      throw new HoldfastError(
        'approval.plan-changed',
        `Approving ${operationId}: the plan that was looked at is not the one that is stored.`,
      )
    }
    await assertPlan(tx, approval)
    const row = await tx
      .updateTable('approvals')
      .set({
        state: decision.decision,
        approval_id: `apr-${readable(randomBytes(20))}`,
        decided_by: decision.by,
        decided_at: new Date().toISOString(),
        decision_reason: decision.reason,
        break_glass: decision.breakGlass ? 1 : 0,
      })
      .where('operation_id', '=', operationId)
      .returningAll()
      .executeTakeFirstOrThrow()
    return toApproval(row)
  })
}

/** What a signal's id means. Anything but the id of the decision is refused and audited. */
export async function weighApproval(
  catalog: Catalog,
  operationId: string,
  approvalId: string,
): Promise<ApprovalVerdict> {
  return await catalog.transaction(async tx => {
    const approval = await readApproval(tx, operationId)
    const known = approval.approvalId !== null && approval.approvalId === approvalId
    if (known && approval.state === 'rejected') return said(approval)
    if (known && approval.state === 'approved' && !isOver(approval)) return said(approval)
    const error = !known
      ? new HoldfastError(
          'approval.unknown',
          `A signal to ${operationId} carries no approval that was given.`,
        )
      : approval.state === 'used'
        ? used(approval)
        : expired(approval)
    await entered(catalog, tx, 'approval signal', operationId, 'refused', error)
    return refused
  })
}

/** The time is over: unless somebody decided at the last moment, nobody can any more. */
export async function expireApproval(catalog: Catalog, operationId: string): Promise<ApprovalVerdict> {
  return await catalog.transaction(async tx => {
    const approval = await readApproval(tx, operationId)
    if (approval.state === 'approved' || approval.state === 'rejected') return said(approval)
    if (approval.state === 'waiting' || approval.state === 'planning') {
      await setState(tx, operationId, 'expired')
      await entered(catalog, tx, 'approval', operationId, 'refused', expired(approval))
    }
    return refused
  })
}

/** The operation ends without it. */
export async function withdrawApproval(catalog: Catalog, operationId: string): Promise<void> {
  await catalog.db
    .updateTable('approvals')
    .set({ state: 'withdrawn' })
    .where('operation_id', '=', operationId)
    .where('state', 'in', ['planning', 'waiting', 'approved'])
    .execute()
}

/**
 * Uses the approval up, for one run of the executing workflow and the plan with this digest. The same run may ask again;
 * another one (a reset, a second start) is refused. Throws `approval.*`, and enters it in the audit.
 */
export async function useApproval(
  catalog: Catalog,
  operationId: string,
  use: { approvalId: string; runId: string; planDigest: string },
): Promise<void> {
  const refusal = await catalog.transaction(async tx => {
    const approval = await readApproval(tx, operationId)
    const error = await refusalOf(tx, approval, use)
    if (error) {
      await entered(catalog, tx, 'use approval', operationId, 'refused', error)
      return error
    }
    if (approval.state === 'used') return undefined
    await tx
      .updateTable('approvals')
      .set({ state: 'used', used_by_run: use.runId, used_at: new Date().toISOString() })
      .where('operation_id', '=', operationId)
      .execute()
    await entered(catalog, tx, 'use approval', operationId, 'done')
    return undefined
  })
  if (refusal) throw refusal
}

async function refusalOf(
  tx: CatalogDatabase,
  approval: ApprovalRecord,
  use: { approvalId: string; runId: string; planDigest: string },
): Promise<HoldfastError | undefined> {
  const { operationId } = approval
  if (await isOperationClosed(tx, operationId)) {
    return new HoldfastError(
      'approval.used',
      `Operation ${operationId} has ended; its approval is worth nothing.`,
    )
  }
  if (approval.approvalId !== use.approvalId) {
    return new HoldfastError(
      'approval.unknown',
      `Operation ${operationId} was not approved by ${use.approvalId}.`,
    )
  }
  if (approval.state === 'used') return approval.usedByRun === use.runId ? undefined : used(approval)
  if (approval.state !== 'approved') return notWaiting(approval)
  if (isOver(approval)) return expired(approval)
  if (approval.planDigest !== use.planDigest) {
    return new HoldfastError(
      'approval.plan-changed',
      `The stored plan of ${operationId} is not the approved one.`,
    )
  }
  return undefined
}

/**
 * Before a destructive step runs. `finished`: it was done, and is never done again. Refused when the operation is closed,
 * or when this run is not the one that used the approval.
 */
export async function beginDestructive(
  catalog: Catalog,
  operationId: string,
  step: string,
  runId: string,
): Promise<'new' | 'started' | 'finished'> {
  return await catalog.transaction(async tx => {
    if (await isOperationClosed(tx, operationId)) {
      throw new HoldfastError('operation.conflict', `Operation ${operationId} is closed.`)
    }
    const approval = await readApproval(tx, operationId)
    if (approval.state !== 'used' || approval.usedByRun !== runId) throw used(approval)
    const row = await tx
      .selectFrom('destructive_steps')
      .select('finished_at')
      .where('operation_id', '=', operationId)
      .where('step', '=', step)
      .executeTakeFirst()
    if (row) return row.finished_at === null ? 'started' : 'finished'
    await tx
      .insertInto('destructive_steps')
      .values({ operation_id: operationId, step, started_at: new Date().toISOString(), finished_at: null })
      .execute()
    await entered(catalog, tx, `${step} begins`, operationId, 'done')
    return 'new'
  })
}

export async function finishDestructive(catalog: Catalog, operationId: string, step: string): Promise<void> {
  await catalog.transaction(async tx => {
    const changed = await tx
      .updateTable('destructive_steps')
      .set({ finished_at: new Date().toISOString() })
      .where('operation_id', '=', operationId)
      .where('step', '=', step)
      .where('finished_at', 'is', null)
      .executeTakeFirst()
    if (changed.numUpdatedRows > 0n) await entered(catalog, tx, `${step} ended`, operationId, 'done')
  })
}

/** Which destructive steps began, and which of them ended. Also to take them back: that needs no approval. */
export async function destructiveSteps(
  catalog: Catalog,
  operationId: string,
): Promise<Record<string, 'started' | 'finished'>> {
  const rows = await catalog.db
    .selectFrom('destructive_steps')
    .select(['step', 'finished_at'])
    .where('operation_id', '=', operationId)
    .execute()
  return Object.fromEntries(rows.map(row => [row.step, row.finished_at === null ? 'started' : 'finished']))
}

/**
 * Closed restores whose swap nobody has ended, as their workflow was ended from outside: neither taken back, nor handed over with
 * what was kept noted.
 */
export async function interruptedSwaps({ db }: Catalog): Promise<string[]> {
  const rows = await db
    .selectFrom('destructive_steps')
    .innerJoin('operations', 'operations.id', 'destructive_steps.operation_id')
    .select('operations.id')
    .where('destructive_steps.step', '=', 'exchange')
    .where('operations.state', 'in', ['failed', 'cancelled'])
    .where('operations.id', 'not in', eb =>
      eb
        .selectFrom('destructive_steps')
        .select('operation_id')
        .where('step', '=', 'roll-back')
        .where('finished_at', 'is not', null),
    )
    .where('operations.id', 'not in', eb => eb.selectFrom('kept_copies').select('operation_id'))
    .execute()
  return rows.map(({ id }) => id)
}

/** Written before the way back is taken: from then on the way forward is closed. */
export async function beginRollBack(catalog: Catalog, operationId: string): Promise<void> {
  await catalog.transaction(async tx => {
    const made = await tx
      .insertInto('destructive_steps')
      .values({
        operation_id: operationId,
        step: 'roll-back',
        started_at: new Date().toISOString(),
        finished_at: null,
      })
      .onConflict(conflict => conflict.columns(['operation_id', 'step']).doNothing())
      .executeTakeFirst()
    if (made.numInsertedOrUpdatedRows) await entered(catalog, tx, 'roll-back begins', operationId, 'done')
  })
}

async function readApproval(db: CatalogDatabase, operationId: string): Promise<ApprovalRecord> {
  const found = await findApproval(db, operationId)
  if (found) return found
  throw new HoldfastError('request.not-found', `Operation ${operationId} asks for no approval.`)
}

async function isOperationClosed(tx: CatalogDatabase, operationId: string): Promise<boolean> {
  const row = await tx
    .selectFrom('operations')
    .select('state')
    .where('id', '=', operationId)
    .executeTakeFirst()
  return row === undefined || isClosed(row.state)
}

async function assertPlan(tx: CatalogDatabase, approval: ApprovalRecord): Promise<void> {
  const plan = await tx
    .selectFrom('plans')
    .select('digest')
    .where('operation_id', '=', approval.operationId)
    .executeTakeFirst()
  if (plan?.digest === approval.planDigest) return
  throw new HoldfastError(
    'approval.plan-changed',
    `The stored plan of ${approval.operationId} is not the one that approval was asked for.`,
  )
}

const setState = async (tx: CatalogDatabase, operationId: string, state: string) => {
  await tx.updateTable('approvals').set({ state }).where('operation_id', '=', operationId).execute()
}

const entered = (
  catalog: Catalog,
  tx: CatalogDatabase,
  action: string,
  object: string,
  outcome: AuditOutcome,
  error?: HoldfastError,
) =>
  audit(
    catalog,
    {
      at: new Date().toISOString(),
      actor: { name: 'holdfast' },
      action,
      object,
      outcome,
      detail: error ? { code: error.code, said: error.message } : {},
    },
    tx,
  )

const isOver = (approval: ApprovalRecord) => Date.parse(approval.expiresAt) <= Date.now()
const said = (approval: ApprovalRecord): ApprovalVerdict => ({
  verdict: approval.state === 'approved' ? 'approved' : 'rejected',
  approvalId: approval.approvalId,
  by: approval.decidedBy,
  reason: approval.decisionReason,
  breakGlass: approval.breakGlass,
})
const refused: ApprovalVerdict = {
  verdict: 'refused',
  approvalId: null,
  by: null,
  reason: null,
  breakGlass: false,
}

const used = ({ operationId, usedByRun }: ApprovalRecord) =>
  new HoldfastError(
    'approval.used',
    `The approval of ${operationId} was used${usedByRun ? ` by run ${usedByRun}` : ' by nobody yet'}; it is good for one run.`,
  )
const expired = ({ operationId, expiresAt }: ApprovalRecord) =>
  new HoldfastError('approval.expired', `The request ${operationId} expired at ${expiresAt}.`)

const states: Record<string, ErrorCode> = { used: 'approval.used', expired: 'approval.expired' }
const notWaiting = ({ operationId, state }: ApprovalRecord) =>
  new HoldfastError(
    states[state] ?? 'approval.not-wanted',
    `Operation ${operationId} does not wait for an approval: ${state}.`,
  )

const toApproval = (row: Selectable<CatalogTables['approvals']>): ApprovalRecord => ({
  operationId: row.operation_id,
  state: row.state as ApprovalRecord['state'],
  requestedBy: row.requested_by,
  requestedUser: row.requested_user,
  requestedAt: row.requested_at,
  reason: row.request_reason,
  expiresAt: row.expires_at,
  planDigest: row.plan_digest,
  targetName: row.target_name,
  approvalId: row.approval_id,
  decidedBy: row.decided_by,
  decidedAt: row.decided_at,
  decisionReason: row.decision_reason,
  breakGlass: row.break_glass === 1,
  usedByRun: row.used_by_run,
})
