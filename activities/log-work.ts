/** What the parts of a log stream share while a step works on it. */
import type { LogStreaming } from '../engines/engine.ts'
import type { LogStreamRecord, LogStreamState } from '../model/log-stream.ts'
import type { Json } from '../model/types.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import type { StepContext } from './steps.ts'

export interface StreamWork {
  context: WorkerContext
  turn: Pick<Turn, 'signal' | 'fence' | 'assertLease'>
  connection: { name: string; settings: Json; systemIdentifier: string }
  streaming: LogStreaming
  steps: StepContext
  /** Names its room in staging. */
  operation: string
  /** What is wanted, as the catalog said last. */
  wanted: LogStreamRecord
  state: LogStreamState
}
