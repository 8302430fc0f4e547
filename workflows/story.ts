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
import type { ErrorFacts } from '../model/errors.ts'
import type { HostWorker, Patience } from '../model/records.ts'
import type { CheckResult, Phase, PhaseRecord } from '../model/types.ts'
import { operationAttribute, stateAttribute } from './attributes.ts'
import { holdable } from './holding.ts'
import { servedBy } from './machine.ts'
import { attempted, attemptedThere, local, telling } from './steps.ts'

export const stateQuery = defineQuery<{ title: string; phases: PhaseRecord[]; trouble: ErrorFacts | null }>(
  'state',
)

export interface Story {
  title: string
  phases: PhaseRecord[]
  /** Shown with the outcome. */
  warnings: string[]
  /** The work is done and stands, and yet something of it went wrong. */
  flaw: ErrorFacts | null
  /** Called first when the work failed or was cancelled. */
  whenGivenUp: (outcome: 'failed' | 'cancelled') => Promise<void>
  /** Tells a phase: when it began, how it went. `summarize` puts its result in a few words. */
  phase<T>(phase: Phase, work: () => Promise<T>, summarize?: (result: T) => string | undefined): Promise<T>
  /** What the prechecks answered. */
  checked(answers: readonly CheckResult[] | undefined): void
  /** How the phase under way goes. */
  says(summary: string): void
  state(state: string): void
  /** It waits for its server, in this phase. */
  queued(): void
  /** Waits until the catalog was told everything so far. */
  told(): Promise<void>
}

const answers = { pass: '✓', warn: '!', fail: '✗' } as const
/** A row of a Markdown table. */
const checkLine = ({ answer, title, detail }: CheckResult) =>
  `| ${[answers[answer], title, detail].map(cell => cell.replace(/\s+/g, ' ').replaceAll('|', '\\|')).join(' | ')} |`

const mark = { running: '●', done: '✓', failed: '✗', skipped: '–' } as const
// Workflow time is replayed: `Date` is Temporal's here.
const now = () => new Date().toISOString()
const seconds = (record: PhaseRecord) =>
  record.endedAt ? `${((Date.parse(record.endedAt) - Date.parse(record.startedAt)) / 1000).toFixed(1)} s` : ''

/** `before`: what another workflow of the same operation has told already. */
export function tell(
  input: { operationId: string; dryRun?: boolean; hostWorker?: HostWorker } & Patience,
  title: string,
  before: readonly PhaseRecord[] = [],
): Story {
  const { operationId } = input
  const phases: PhaseRecord[] = before.map(phase => ({ ...phase }))
  let tellings: Promise<void> = Promise.resolve()
  let shown = ''
  let trouble: ErrorFacts | null = null
  let heldSince: string | undefined
  let checks: readonly CheckResult[] = []
  servedBy(input.hostWorker)
  setHandler(stateQuery, () => ({ title, phases, trouble }))
  const show = () => {
    const lines = phases.map(p => `| ${mark[p.state]} | ${p.phase} | ${p.summary ?? ''} | ${seconds(p)} |`)
    const why = trouble ? ['', `**${trouble.code}**: ${trouble.detail}`, '', trouble.hint] : []
    setCurrentDetails(
      [
        `**${title}**${shown}`,
        ...why,
        ...['', '| | phase | | time |', '|-|-|-|-|', ...lines],
        ...(checks.length === 0 ? [] : ['', '| | check | |', '|-|-|-|', ...checks.map(checkLine)]),
      ].join('\n'),
    )
  }
  const copied = () => phases.map(p => ({ ...p }))
  /** One after another, never in the way of the work, and not undone by a cancellation. */
  const next = (tellIt: () => Promise<unknown>) => {
    tellings = tellings.then(() =>
      CancellationScope.nonCancellable(tellIt).then(
        () => {},
        () => {
          // The catalog is told again with the next phase, and in full at the end.
        },
      ),
    )
  }
  /** A workflow task is not finished before its calls of the catalog are: told once per phase, at its beginning. */
  const publish = () => {
    show()
    const snapshot = copied()
    next(() => local.report(operationId, { state: 'running', phases: snapshot }))
  }
  const setState = (state: string) => {
    shown = state === 'running' ? '' : ` — ${state}`
    // A Temporal that does not know our attributes got none at the start, and would fail the workflow for this one.
    if (workflowInfo().typedSearchAttributes.get(operationAttribute) !== undefined) {
      upsertSearchAttributes([{ key: stateAttribute, value: state }])
    }
    show()
  }
  holdable(
    {
      phase: () => phases.at(-1)?.phase,
      async parked(facts, { until, retryAt, again }) {
        const when = { parkedAt: now(), parkedUntil: until, ...(retryAt === null ? {} : { retryAt }) }
        const parked = { ...facts, context: { ...facts.context, ...when } }
        trouble = parked
        heldSince = now()
        setState('parked')
        const snapshot = copied()
        next(() => telling.report(operationId, { state: 'parked', phases: snapshot, error: parked }))
        const quietly = () => {
          // Said in the operation's log.
        }
        if (!again) {
          attempted
            .notify({ event: 'operation.parked', operation: operationId, title, error: parked })
            .catch(quietly)
        }
        // Where nobody came for the step, nobody would for this.
        if (facts.code !== 'host.no-worker') await attemptedThere.release(operationId).catch(quietly)
      },
      paused() {
        heldSince = now()
        setState('paused')
        const snapshot = copied()
        next(() => telling.report(operationId, { state: 'paused', phases: snapshot }))
      },
      goesOn() {
        trouble = null
        const held = phases.at(-1)
        if (heldSince !== undefined && held?.state === 'running') {
          held.heldMs = (held.heldMs ?? 0) + Date.parse(now()) - Date.parse(heldSince)
        }
        heldSince = undefined
        setState('running')
        const snapshot = copied()
        next(() => telling.report(operationId, { state: 'running', phases: snapshot, error: null }))
      },
      wanted(pauseWanted) {
        next(() => telling.report(operationId, { pauseWanted }))
      },
      told: () => tellings,
    },
    input,
  )
  return {
    title,
    phases,
    warnings: [],
    flaw: null,
    whenGivenUp: async () => {},
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
    checked(answers = []) {
      checks = answers
    },
    says(summary) {
      const running = phases.at(-1)
      if (running?.summary === summary) return
      if (running) running.summary = summary
      publish()
    },
    state(state) {
      trouble = null
      setState(state)
    },
    queued() {
      setState('queued')
      const snapshot = copied()
      next(() => telling.report(operationId, { state: 'queued', phases: snapshot }))
    },
    told: () => tellings,
  }
}
