/** What the worker and the thread of its steps tell each other; see activities/thread.ts. */
import { type ErrorFacts, HoldfastError } from '../model/errors.ts'
import type { Turn } from './boundary.ts'
import type { Activities } from './index.ts'
import type { LastBeat } from './lease.ts'

export type StepName = keyof Activities

export type ToThread =
  | {
      start: number
      name: StepName
      input: readonly unknown[]
      fence: number
      runId: string
      lastBeat: LastBeat
    }
  | { abort: number; reason: ThrownFacts }

export type FromThread =
  /** The first message: which steps there are. */
  | { names: StepName[] }
  | { of: number; progress: Parameters<Turn['progress']>[0] }
  | { of: number; done: unknown }
  | { of: number; failed: ThrownFacts }

/** An error on its way between threads, which know no classes. */
type ThrownFacts = { known: ErrorFacts } | { name: string; message: string }

export function factsThrown(error: unknown): ThrownFacts {
  if (error instanceof HoldfastError) return { known: error.facts() }
  return error instanceof Error
    ? { name: error.name, message: error.message }
    : { name: 'Error', message: String(error) }
}

export function errorThrown(facts: ThrownFacts): Error {
  if ('known' in facts) {
    const { code, detail, hint, context } = facts.known
    return new HoldfastError(code, detail, { hint, ...(context ? { context } : {}) })
  }
  return Object.assign(new Error(facts.message), { name: facts.name })
}
