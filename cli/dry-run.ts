/** Shows what an operation would do. */
import { type OperationView, planView } from '../model/views.ts'
import type { Context } from './context.ts'
import { summaryLines } from './operation-lines.ts'
import { bytes, clean, duration, paint, print, printError, printJson } from './terminal.ts'
import { exitOf, watch } from './watch.ts'

/** Waits for the checks, then shows the plan. The exit code says whether it would begin. */
export async function showDryRun(context: Context, answer: OperationView): Promise<void> {
  const last = await watch(context, answer)
  process.exitCode = exitOf(last)
  if (last.error === null || last.commands.length > 0) await showPlan(context, last.id)
  if (!context.json) for (const line of summaryLines(last)) print(line)
  if (last.error !== null) printError(last.error)
}

async function showPlan(context: Context, id: string): Promise<void> {
  const plan = await context.client.get(planView, `/v1/operations/${encodeURIComponent(id)}/plan`)
  if (context.json) return printJson(plan)
  const { expected } = plan
  const took = typeof expected?.seconds === 'number' ? `, ${duration(expected.seconds * 1000)}` : ''
  const like =
    expected === null ? '' : `; expected, as ${expected.from}: ${bytes(expected.storedBytes)} stored${took}`
  print(plan.sizeBytes === 0 ? '' : `\n  ${bytes(plan.sizeBytes)}${like}`)
  if (plan.unsigned !== null) print(`  ${paint('red', 'unsigned')}  ${clean(plan.unsigned)}`)
  for (const line of plan.destroys) print(`  ${paint('red', 'destroys')}  ${clean(line)}`)
  for (const step of plan.steps) {
    print(`  ${clean(step.title)}`)
    print(`    $ ${clean(step.command)}`)
    for (const line of step.input?.trimEnd().split('\n') ?? []) print(paint('dim', `      ${clean(line)}`))
  }
  print(`  plan ${plan.digest}\n`)
}
