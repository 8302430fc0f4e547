/**
 * A restore that may replace something: plans without a lock, waits for its approval, then hands over to the executing part
 * under the server's lock. What it is told by signals are ids; what they are worth the catalog says.
 */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common'
import {
  ApplicationFailure,
  CancellationScope,
  condition,
  defineSignal,
  ParentClosePolicy,
  setHandler,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow'
import type { ErrorCode } from '../model/errors.ts'
import { serverLock } from '../model/ids.ts'
import type { ApprovalVerdict, RestoreInput } from '../model/records.ts'
import { prechecked } from './checked.ts'
import { held } from './holding.ts'
import { isServed, leaveMachines } from './machine.ts'
import { handedOver, type Told, toItsEnd } from './outcome.ts'
import { restoreTitle } from './restore.ts'
import { attempted, patient, quick } from './steps.ts'
import { type Story, tell } from './story.ts'
import { thaw } from './thaw.ts'

const approveSignal = defineSignal<[approvalId: unknown]>('approve')
const rejectSignal = defineSignal<[approvalId: unknown]>('reject')

/** Whoever waits for a lock asks again after this long, at most. */
const longestPauseSeconds = 30

export async function request(input: RestoreInput): Promise<Told> {
  const title = restoreTitle(input)
  const story = tell(input, title)
  // From the first moment: what is signalled before anybody may decide is refused, not lost.
  const heard: unknown[] = []
  setHandler(approveSignal, id => void heard.push(id))
  setHandler(rejectSignal, id => void heard.push(id))
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase('plan', () => quick.planRestore(input))
      await prechecked(story, () => quick.precheckRestore(input))
      // Before anybody holds the server, and before an approval that would run out meanwhile.
      if (plan.frozen) await thaw(story, input)
      const approved = plan.swap
        ? await story.phase(
            'approval',
            () => approval(input, plan.digest, heard, story),
            ({ by }) => `approved by ${by}`,
          )
        : null
      const announced = announce(input, title, approved)
      try {
        await story.phase(
          'queue',
          () =>
            handOver(
              { ...input, approvalId: approved?.approvalId ?? null },
              title,
              story,
              approved?.expiresAt,
            ),
          () => `goes on as ${serverLock(input.serverIdentity)}`,
        )
      } finally {
        await announced
      }
      return handedOver
    },
    async () => {
      if (isServed()) await leaveMachines(input.operationId)
      await patient.withdrawRequest(input.operationId, isServed())
      return false
    },
  )
}

interface Approved {
  approvalId: string
  by: string
  reason: string
  breakGlass: boolean
  expiresAt: string
}

/** That the second person was waived somebody is told, who may want to stop it. The restore does not wait for it. */
async function announce(input: RestoreInput, title: string, approved: Approved | null): Promise<void> {
  if (!approved?.breakGlass) return
  const { by, reason } = approved
  const event = 'approval.break-glass'
  try {
    await CancellationScope.nonCancellable(() =>
      attempted.notify({ event, operation: input.operationId, title, by, reason }),
    )
  } catch {
    // Said in the operation's log.
  }
}

/** Waits until somebody has said yes. Signals that mean nothing are refused one by one, and change nothing. */
async function approval(
  input: RestoreInput,
  digest: string,
  heard: unknown[],
  story: Story,
): Promise<Approved> {
  // What is still on its way to the catalog would say that it runs.
  await story.told()
  const { expiresAt } = await patient.wantApproval(input, digest)
  story.state('awaiting-approval')
  for (;;) {
    const left = Date.parse(expiresAt) - Date.now()
    const came = left > 0 && (await condition(() => heard.length > 0, left))
    const verdict = came
      ? await patient.weighApproval(input.operationId, String(heard.shift()).slice(0, 200))
      : await patient.expireApproval(input.operationId)
    const approved = read(verdict, came)
    if (approved) return { ...approved, expiresAt }
  }
}

function read(verdict: ApprovalVerdict, came: boolean): Omit<Approved, 'expiresAt'> | undefined {
  const { approvalId, breakGlass } = verdict
  const by = verdict.by ?? 'somebody'
  const reason = verdict.reason ?? 'no reason given'
  if (verdict.verdict === 'approved' && approvalId !== null) return { approvalId, by, reason, breakGlass }
  if (verdict.verdict === 'rejected') throw failure('approval.rejected', `Rejected by ${by}: ${reason}`)
  if (!came) throw failure('approval.expired', 'Nobody approved the restore in time.')
  return undefined
}

/**
 * Starts the executing part under the server's lock; waits for the lock while another operation holds it. Where it may not
 * wait, its row reserves the lock from then on, and a backup that holds it is ended.
 */
async function handOver(
  input: RestoreInput,
  title: string,
  story: Story,
  expiresAt: string | undefined,
): Promise<void> {
  await story.told()
  for (let pause = 1; ; pause = Math.min(pause * 2, longestPauseSeconds)) {
    if (await held(() => beginExecuting(input, title, story))) return
    if (expiresAt !== undefined && Date.parse(expiresAt) <= Date.now()) {
      throw failure('approval.expired', 'Another operation held the server until the approval had expired.')
    }
    story.queued()
    await story.told()
    const free = input.preempt && (await quick.makeWay(input.operationId))
    await sleep(free ? '100ms' : pause * 1000)
  }
}

/** False: another operation holds the server. */
async function beginExecuting(input: RestoreInput, title: string, story: Story): Promise<boolean> {
  const workflowId = serverLock(input.serverIdentity)
  const { memo, typedSearchAttributes } = workflowInfo()
  try {
    // Whether it was started must be known: nobody may believe that this operation was cancelled.
    await CancellationScope.nonCancellable(async () => {
      const before = story.phases.filter(phase => phase.state === 'done')
      const child = await startChild('restore', {
        workflowId,
        args: [{ ...input, before }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        staticSummary: title,
        ...(memo ? { memo } : {}),
        typedSearchAttributes,
      })
      await patient.follow(input.operationId, workflowId, child.firstExecutionRunId)
    })
    return true
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return false
    throw error
  }
}

function failure(code: ErrorCode, detail: string): ApplicationFailure {
  const hint = 'Nothing was replaced. Ask for the restore again.'
  return ApplicationFailure.create({
    type: code,
    message: detail,
    nonRetryable: true,
    details: [{ code, detail, hint }],
  })
}
