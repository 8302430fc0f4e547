/** What the bench says: one row a case. */

export interface Row {
  case: string
  /** What was compared with what, in words. */
  what: string
  unit: 's' | 'bytes'
  /** Medians over the runs. For absolute targets `baseline` is the limit itself. */
  ours: number
  baseline: number
  /** Median of the ratios of runs made one after the other. */
  ratio: number
  /** Of the ratio; null: for information. */
  target: number | null
  better: 'lower'
  /** Highest sum over our process tree: API, Temporal, worker, tools. */
  rssBytes: number | null
  /** Highest resident memory of the worker process alone, while it did this. */
  workerRssBytes: number | null
  baselineRssBytes: number | null
  /** Of our process tree, and of the programs of the baseline. Without the servers that both use. */
  cpuSeconds: number | null
  baselineCpuSeconds: number | null
  /** Of PostgreSQL and the object store meanwhile. */
  serverCpuSeconds: number | null
  baselineServerCpuSeconds: number | null
  storedBytes: number | null
  baselineStoredBytes: number | null
  databaseBytes: number | null
  runs: { ours: number; baseline: number }[]
}

const met = (row: Row): boolean | null => (row.target === null ? null : row.ratio <= row.target)

const mega = (bytes: number | null) => (bytes === null ? '–' : `${(bytes / 1e6).toFixed(0)} MB`)
const seconds = (value: number | null) => (value === null ? '–' : value.toFixed(2))
const amount = (row: Row, value: number) =>
  row.unit === 's' ? `${value.toFixed(value < 1 ? 3 : 2)} s` : `${(value / 1e6).toFixed(1)} MB`

const columns: [string, (row: Row) => string][] = [
  ['case', row => row.case],
  ['ours', row => amount(row, row.ours)],
  ['baseline', row => amount(row, row.baseline)],
  ['ratio', row => row.ratio.toFixed(3)],
  ['target', row => (row.target === null ? '–' : `≤ ${row.target.toFixed(2)}`)],
  ['', row => ({ true: '✓', false: '✗', null: ' ' })[String(met(row)) as 'true' | 'false' | 'null']],
  ['CPU s (base)', row => `${seconds(row.cpuSeconds)} (${seconds(row.baselineCpuSeconds)})`],
  ['servers (base)', row => `${seconds(row.serverCpuSeconds)} (${seconds(row.baselineServerCpuSeconds)})`],
  ['RSS tree', row => mega(row.rssBytes)],
  ['worker', row => mega(row.workerRssBytes)],
  ['stored (base)', row => `${mega(row.storedBytes)} (${mega(row.baselineStoredBytes)})`],
]

export function table(rows: readonly Row[]): string {
  const cells = [columns.map(([title]) => title), ...rows.map(row => columns.map(([, show]) => show(row)))]
  const widths = columns.map((_, index) => Math.max(...cells.map(line => line[index]?.length ?? 0)))
  const lines = cells.map(line =>
    line
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const words = rows.map(row => `${row.case}: ${row.what}`)
  const missed = rows.filter(row => met(row) === false).map(row => row.case)
  const verdict =
    missed.length === 0 ? 'Every target is met.' : `Missed: ${missed.join(', ')}. See docs/performance.md.`
  return [...lines, '', ...words, '', verdict].join('\n')
}
