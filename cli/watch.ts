/** Follows one operation and shows it: a list that is redrawn on a terminal, plain lines elsewhere, JSON lines for programs. */

import { errorTable, hasCode, isErrorCode } from '../model/errors.ts'
import { closedStates } from '../model/types.ts'
import { accepted, type OperationView, operationView } from '../model/views.ts'
import type { Client } from './client.ts'
import type { Context } from './context.ts'
import { drawOperation, heading, phaseLine, summaryLines } from './operation-lines.ts'
import { note, print, printError, printJson } from './terminal.ts'

export const isClosed = (operation: OperationView): boolean =>
  closedStates.some(state => state === operation.state)

/** How many seconds the API may be away while we watch: it comes back after a restart. */
const patienceSeconds = 60

/** When it was parked; another time is another trouble. */
const parkedAt = (operation: OperationView) =>
  operation.state === 'parked' ? operation.error?.context?.parkedAt : undefined

/**
 * Shows the operation until it is closed or parked and returns it. `known`: it was resumed or approved, and still being shown
 * as it was then says nothing. Ctrl-C stops the watching, never the operation: then the
 * process says how to go on and ends with 130.
 */
export async function watch(
  context: Context,
  first: OperationView,
  known?: OperationView,
): Promise<OperationView> {
  const detach = () => {
    note(
      `\n${first.kind} ${first.id} goes on. Watch it again: holdfast operation watch ${first.id} · cancel it: holdfast operation cancel ${first.id}`,
    )
    process.exit(130)
  }
  process.once('SIGINT', detach)
  const show = context.json ? jsonLines() : process.stdout.isTTY ? redrawn() : plainLines()
  // Just approved: its workflow may not have heard of it yet.
  let asked = known?.state === 'awaiting-approval'
  try {
    for (let operation = first; ; operation = await ask(context.client, first.id)) {
      show(operation)
      if (operation.state === 'awaiting-approval' && !asked) {
        asked = true
        note(`It waits for somebody who may approve it: holdfast approve ${first.id}`)
      }
      if (isClosed(operation)) return operation
      if (operation.state === 'parked' && !(known && parkedAt(operation) === parkedAt(known)))
        return operation
      await new Promise(resolve => setTimeout(resolve, 250))
    }
  } finally {
    process.off('SIGINT', detach)
  }
}

async function ask(client: Client, id: string): Promise<OperationView> {
  const since = Date.now()
  for (;;) {
    try {
      return await client.get(operationView, `/v1/operations/${encodeURIComponent(id)}`)
    } catch (error) {
      const away = hasCode(error, 'api.unreachable')
      if (!away || Date.now() - since > patienceSeconds * 1000) throw error
      await new Promise(resolve => setTimeout(resolve, 1000))
    }
  }
}

function jsonLines() {
  let last = ''
  return (operation: OperationView) => {
    const line = JSON.stringify(operation)
    if (line !== last) print(line)
    last = line
  }
}

function plainLines() {
  let told = 0
  let begun = false
  return (operation: OperationView) => {
    if (!begun) print(heading(operation))
    begun = true
    const ended = operation.phases.filter(phase => phase.state !== 'running')
    for (const phase of ended.slice(told)) print(phaseLine(phase, operation, undefined))
    told = Math.max(told, ended.length)
  }
}

function redrawn() {
  const draw = drawOperation(process.stdout)
  return (operation: OperationView) => draw(operation)
}

/** Starts nothing itself: takes the API's answer to a POST, waits if asked to, shows the end, sets the exit code. */
export async function follow(
  context: Context,
  answer: OperationView,
  wait: boolean,
  known?: OperationView,
): Promise<void> {
  if (!wait) {
    if (context.json) printJson(answer)
    else {
      print(heading(answer))
      print(`watch it: holdfast operation watch ${answer.id}`)
    }
    return
  }
  const last = await watch(context, answer, known)
  if (!context.json) for (const line of summaryLines(last)) print(line)
  process.exitCode = exitOf(last)
  if (last.error !== null && process.exitCode !== 0) printError(last.error)
}

export const start = async (context: Context, path: string, body: unknown): Promise<OperationView> =>
  (await context.client.post(accepted, path, body)).operation

/** 0 done · by the error's code when failed · 6 parked · 7 cancelled · 9 partial. */
export function exitOf(operation: OperationView): number {
  if (operation.state === 'succeeded') return 0
  if (operation.state === 'cancelled') return 7
  if (operation.state === 'parked') return 6
  if (operation.state === 'partial') return 9
  const code = operation.error?.code
  return isErrorCode(code) ? errorTable[code].exit : 1
}
