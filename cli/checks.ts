/** Answers of prechecks: one line each, and an exit code that scripts can use. */
import { z } from 'zod'
import { errorTable, isErrorCode } from '../model/errors.ts'
import { operationView } from '../model/schemas.ts'
import type { Context } from './context.ts'
import { clean, padEnd, paint, print, printJson } from './terminal.ts'

export const checksAnswer = z.object({ checks: operationView.shape.checks })

export function showChecks(context: Context, answer: z.infer<typeof checksAnswer>): void {
  if (context.json) printJson(answer)
  else {
    for (const check of answer.checks) {
      const colour = { pass: 'green', warn: 'yellow', fail: 'red' } as const
      print(
        `${paint(colour[check.answer], padEnd(check.answer, 4))}  ${clean(check.title)}: ${clean(check.detail)}`,
      )
      if (check.hint !== undefined && check.answer !== 'pass') print(`      ${clean(check.hint)}`)
    }
  }
  const failed = answer.checks.find(check => check.answer === 'fail')
  if (failed !== undefined) process.exitCode = isErrorCode(failed.code) ? errorTable[failed.code].exit : 1
}
