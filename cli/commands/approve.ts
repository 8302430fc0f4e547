/** Consent: the plan in words, then everything that makes a "yes" one. Nothing of it can be given on a command line but the reason. */
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import {
  type ApprovalView,
  approvalView,
  type OperationView,
  operationView,
  type PlanView,
  page,
  planView,
} from '../../model/views.ts'
import { type Context, contextOf } from '../context.ts'
import { type SecretOptions, secretOf, withSecretOptions } from '../secret-options.ts'
import { askSecret, clean, fields, note, paint, print, printJson, table, time } from '../terminal.ts'
import { follow } from '../watch.ts'

interface ApproveOptions extends SecretOptions {
  targetName?: string
  reason?: string
  planDigest?: string
  breakGlass?: boolean
  wait: boolean
}

const pathOf = (id: string, rest = '') => `/v1/operations/${encodeURIComponent(id)}${rest}`

export function approveCommands(program: Command): void {
  withSecretOptions(program.command('approve <operation>'))
    .description('look at what a restore would replace, then say yes to it')
    .option('--target-name <name>', 'the name of the target, exactly; asked for at a terminal')
    .option('--reason <text>', 'why; asked for at a terminal')
    .option('--plan-digest <digest>', 'of the plan that was looked at; needed where nobody is asked')
    .option('--break-glass', 'without the second person; announced, and kept in the audit')
    .option('--wait', 'watch until it ends', true)
    .option('--no-wait', 'only approve it')
    .addHelpText('after', '\nExample:\n  holdfast approve op-9f3kq2Xy7Lm4Tz')
    .action(async (id: string, options: ApproveOptions, command: Command) => {
      const context = contextOf(command)
      const [plan, operation] = await lookAt(context, id)
      if (!context.json) showPlan(plan, operation)
      const answer = await consent(plan, options)
      const approved = await context.client.post(operationView, pathOf(id, '/approve'), {
        ...answer,
        ...(options.breakGlass ? { breakGlass: true } : {}),
      })
      await follow(context, approved, options.wait, operation)
    })

  program
    .command('reject <operation>')
    .description('say no to a restore that waits for its approval')
    .option('--reason <text>', 'why; asked for at a terminal')
    .addHelpText('after', '\nExample:\n  holdfast reject op-9f3kq2Xy7Lm4Tz --reason "wrong database"')
    .action(async (id: string, options: { reason?: string }, command: Command) => {
      const context = contextOf(command)
      const [plan, operation] = await lookAt(context, id)
      if (!context.json) showPlan(plan, operation)
      const reason = options.reason ?? (await ask('reason: ', '--reason'))
      const rejected = await context.client.post(operationView, pathOf(id, '/reject'), { reason })
      if (context.json) return printJson(rejected)
      print(`${id} is rejected`)
    })

  program
    .command('approvals')
    .description('what waits for an approval')
    .addHelpText('after', '\nExample:\n  holdfast approvals')
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command)
      const { items } = await context.client.get(page(approvalView), '/v1/approvals')
      if (context.json) return printJson(items)
      if (items.length === 0) return note('Nothing waits for an approval.')
      table(['OPERATION', 'TARGET', 'ASKED BY', 'REASON', 'EXPIRES'], items.map(rowOf))
    })
}

const rowOf = (item: ApprovalView) => [
  item.operation,
  `${item.connection}: ${item.targetName ?? ''}`,
  item.requestedBy,
  item.reason ?? '',
  time(item.expiresAt),
]

const lookAt = (context: Context, id: string): Promise<[PlanView, OperationView]> =>
  Promise.all([
    context.client.get(planView, pathOf(id, '/plan')),
    context.client.get(operationView, pathOf(id)),
  ])

function showPlan(plan: PlanView, operation: OperationView): void {
  const { approval } = operation
  print(
    paint('bold', `restore ${operation.backup} → ${operation.connection}: ${clean(operation.target ?? '')}`),
  )
  print()
  if (plan.unsigned !== null) {
    print(paint('red', 'The backup is not signed:'))
    print(`  ${clean(plan.unsigned)}`)
  }
  if (plan.destroys.length > 0) print(paint('red', 'This replaces:'))
  for (const line of plan.destroys) print(`  ${clean(line)}`)
  if (plan.preempts) print(paint('red', 'A backup that holds the server then is cancelled for it.'))
  print()
  print('Step by step:')
  for (const [index, step] of plan.steps.entries()) print(`  ${index + 1}. ${clean(step.title)}`)
  print()
  fields([
    ['asked by', approval?.requestedBy],
    ['because', approval?.reason ?? undefined],
    ['expires', approval ? time(approval.expiresAt) : undefined],
    ['plan', plan.digest],
  ])
  print()
}

/** What a person types after having read the plan; a script brings all of it, the digest of what it looked at too. */
async function consent(plan: PlanView, options: ApproveOptions) {
  const atTerminal = process.stdin.isTTY === true
  const planDigest = options.planDigest ?? (atTerminal ? plan.digest : missing('--plan-digest'))
  const targetName =
    options.targetName ?? (await ask('type the name of the target to go on: ', '--target-name'))
  const reason = options.reason ?? (await ask('reason: ', '--reason'))
  const password =
    (await secretOf(options)) ?? (atTerminal ? await askSecret('password: ') : missing('--secret-file'))
  return { password, targetName, reason, planDigest }
}

async function ask(question: string, option: string): Promise<string> {
  if (process.stdin.isTTY !== true) return missing(option)
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return await lines.question(question)
  } finally {
    lines.close()
  }
}

function missing(option: string): never {
  throw new HoldfastError('request.invalid', `Nobody can be asked here: ${option} is missing.`)
}
