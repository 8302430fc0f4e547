/** Answers of prechecks: one line each, and an exit code that scripts can use. */
import type { z } from 'zod'
import { errorTable, isErrorCode } from '../model/errors.ts'
import type { connectionCheckView, hostCheckView } from '../model/views.ts'
import type { Context } from './context.ts'
import { bytes, clean, padEnd, paint, print, printJson } from './terminal.ts'

type Answer = z.infer<typeof connectionCheckView> | z.infer<typeof hostCheckView>

export function showChecks(context: Context, answer: Answer): void {
  if (context.json) printJson(answer)
  else {
    if ('database' in answer && answer.database !== null) {
      const { database, sizeBytes, serverVersion } = answer
      print(
        `${clean(database)}, about ${bytes(sizeBytes ?? 0)}, server version ${clean(serverVersion ?? '')}`,
      )
    }
    printChecks(answer.checks)
  }
  const failed = answer.checks.find(check => check.answer === 'fail')
  if (failed !== undefined) process.exitCode = isErrorCode(failed.code) ? errorTable[failed.code].exit : 1
}

export function printChecks(checks: Answer['checks']): void {
  for (const check of checks) {
    const colour = { pass: 'green', warn: 'yellow', fail: 'red' } as const
    print(
      `${paint(colour[check.answer], padEnd(check.answer, 4))}  ${clean(check.title)}: ${clean(check.detail)}`,
    )
    if (check.hint !== undefined && check.answer !== 'pass') print(`      ${clean(check.hint)}`)
  }
}
