/** What a drill does besides restoring: it asks its copy, and removes it whatever became of it. */
import { engineOf } from '../engines/index.ts'
import { type Canary, canaryOf } from '../model/canary.ts'
import { HoldfastError } from '../model/errors.ts'
import type { DrillInput } from '../model/records.ts'
import type { CheckResult, MethodName } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { methodOf, stepContext, storedPlan } from './plan.ts'
import { runProbe } from './steps.ts'
import { undoRestore } from './swap.ts'

/** Throws `drill.check-failed` when the copy is not what is expected of it. */
export async function examineCopy(
  context: WorkerContext,
  turn: Turn,
  input: DrillInput,
): Promise<{ passed: number }> {
  const { queries, thorough } = input.drill
  const plan = await storedPlan(context, input.operationId, 'restore')
  const engine = engineOf(input.targetEngine)
  const { settings } = await context.catalog.connection(input.targetConnection)
  const method = methodOf(engine, plan.manifest.method as MethodName)
  const expected = canaryOf(plan.manifest)
  const examination = { queries, thorough, canary: expected !== undefined }
  const probe = method.examine(settings, plan.target, plan.manifest, examination, plan.targetFacts)
  // One of before may live on, and two servers cannot have one data directory.
  turn.assertLease()
  await context.host.stopOperation(input.operationId)
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const examined = probe.read(await runProbe(steps, 'examine', probe.commands, 'no limit'))
  const later = plan.target.recovery !== undefined
  const fresh = expected ? [freshness(examined.canary, expected, later)] : []
  const checks = [...fresh, ...examined.checks]
  await context.catalog.updateOperation(input.operationId, { checks })
  // SQLite knows no longest name.
  const rows = examined.rows.map(one => ({ ...one, table: one.table.slice(0, 500) }))
  await context.catalog.noteExamined(input.operationId, { rows, canary: examined.canary })
  const failed = checks.filter(check => check.answer === 'fail')
  const [first] = failed
  if (first) {
    const more = failed.length > 1 ? ` (and ${failed.length - 1} more)` : ''
    throw new HoldfastError('drill.check-failed', `${first.title}: ${first.detail}${more}`)
  }
  return { passed: checks.filter(check => check.answer === 'pass').length }
}

/** What was written before the backup must be in what came back; `later`: or what was written for one after it. */
function freshness(found: Canary | null, expected: Canary, later: boolean): CheckResult {
  const base = { id: 'examine.canary', title: 'Freshness canary' }
  const words = ({ backup, writtenAt, lsn }: Canary) =>
    `written at ${writtenAt} for ${backup}${lsn === null ? '' : `, the log at ${lsn}`}`
  const same = found?.writtenAt === expected.writtenAt && found.backup === expected.backup
  if (found && (same || (later && found.writtenAt > expected.writtenAt))) {
    return { ...base, answer: 'pass', detail: words(found) }
  }
  const detail = `Not in the copy: that ${words(expected)}. ${found ? `There is one that was ${words(found)}.` : 'There is none.'}`
  return { ...base, answer: 'fail', code: 'drill.check-failed', detail }
}

/** Removes what carries the token of the drill's plan, and nothing else. Succeeds when there is nothing. */
export async function tearDownDrill(context: WorkerContext, turn: Turn, input: DrillInput): Promise<void> {
  await undoRestore(context, turn, input)
  await context.catalog.noteTornDown(input.operationId)
}
