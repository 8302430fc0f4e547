import { HoldfastError } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import type { CommandResult } from '../engine.ts'
import { explain } from './explain.ts'

/** What psql printed as one line of JSON, or the error that its failure means. */
export function answer(result: CommandResult | undefined, doing: string): Record<string, Json> {
  if (result?.exits.every(exit => exit === 0) && result.stdout.trim() !== '') {
    return JSON.parse(result.stdout.trim()) as Record<string, Json>
  }
  const step = { title: doing.charAt(0).toUpperCase() + doing.slice(1) }
  throw (
    (result && explain(result, step)) ??
    new HoldfastError(
      'tool.failed',
      `${step.title}: psql failed. ${result?.stderrTail.trim().slice(-600) ?? ''}`,
    )
  )
}
