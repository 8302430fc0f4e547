/**
 * The story of an operation: its phases, as the Temporal UI, the query `state`, the API and the CLI show them.
 */
import {
  CancellationScope,
  defineQuery,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow'
import type { Phase, PhaseRecord } from '../model/types.ts'
import { operationAttribute, stateAttribute } from './attributes.ts'
import { local } from './steps.ts'

export const stateQuery = defineQuery<{ title: string; phases: PhaseRecord[] }>('state')

export interface Story {
  phases: PhaseRecord[]
  /** Tells a phase: when it began, how it went. `summarize` puts its result in a few words. */
  phase<T>(phase: Phase, work: () => Promise<T>, summarize?: (result: T) => string | undefined): Promise<T>
  state(state: string): void
  /** Waits until the catalog was told everything so far. */
  told(): Promise<void>
}

const mark = { running: '●', done: '✓', failed: '✗', skipped: '–' } as const
// Workflow time is replayed: `Date` is Temporal's here.
const now = () => new Date().toISOString()
const seconds = (record: PhaseRecord) =>
  record.endedAt ? `${((Date.parse(record.endedAt) - Date.parse(record.startedAt)) / 1000).toFixed(1)} s` : ''

export function tell(operationId: string, title: string): Story {
  const phases: PhaseRecord[] = []
  let telling: Promise<void> = Promise.resolve()
  let shown = ''
  setHandler(stateQuery, () => ({ title, phases }))
  const show = () => {
    const lines = phases.map(p => `| ${mark[p.state]} | ${p.phase} | ${p.summary ?? ''} | ${seconds(p)} |`)
    setCurrentDetails([`**${title}**${shown}`, '', '| | phase | | time |', '|-|-|-|-|', ...lines].join('\n'))
  }
  /** A workflow task is not finished before its calls of the catalog are: told once per phase, at its beginning. */
  const publish = () => {
    show()
    const snapshot = phases.map(p => ({ ...p }))
    // One after another, never in the way of the work, and not undone by a cancellation.
    telling = telling.then(() =>
      CancellationScope.nonCancellable(() => local.report(operationId, snapshot)).catch(() => {
        // The catalog is told again with the next phase, and in full at the end.
      }),
    )
  }
  return {
    phases,
    async phase(phase, work, summarize) {
      const record: PhaseRecord = { phase, state: 'running', startedAt: now() }
      phases.push(record)
      publish()
      try {
        const result = await work()
        const summary = summarize?.(result)
        Object.assign(record, { state: 'done', endedAt: now(), ...(summary ? { summary } : {}) })
        return result
      } catch (error) {
        Object.assign(record, { state: 'failed', endedAt: now() })
        throw error
      } finally {
        // What comes next tells the catalog of this end, too: another phase, or the operation's.
        show()
      }
    },
    state(state) {
      shown = ` — ${state}`
      // A Temporal that does not know our attributes got none at the start, and would fail the workflow for this one.
      if (workflowInfo().typedSearchAttributes.get(operationAttribute) !== undefined) {
        upsertSearchAttributes([{ key: stateAttribute, value: state }])
      }
      show()
    },
    told: () => telling,
  }
}
