/**
 * `npm test`: runs every suite, `test/<area>/*.test.ts`, a few files at a time. A skipped test fails the run: a suite
 * that did not run must not look green. `npm test -- hosts storage` runs the named areas; `--soak` adds `*.soak.ts`.
 * A few suites that failed are run once more, alone: what then passes is named as unsteady, and what fails again refuses.
 */
import { once } from 'node:events'
import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir, totalmem } from 'node:os'
import { join, relative } from 'node:path'
import { type EventData, run } from 'node:test'
import { spec } from 'node:test/reporters'

const root = join(import.meta.dirname, '..')
const args = process.argv.slice(2)
const soak = args.includes('--soak')
const areas = args.filter(arg => !arg.startsWith('--'))

// Plain numeric order of weight is not known: the heavy system suites go first, so that none of them runs alone at the end.
const files = globSync(soak ? 'test/**/*.soak.ts' : 'test/**/*.test.ts', { cwd: root })
  .filter(file => areas.length === 0 || areas.some(area => file.startsWith(`test/${area}`)))
  .sort((a, b) => Number(b.includes('system/')) - Number(a.includes('system/')) || (a < b ? -1 : 1))
  .map(file => join(root, file))
if (files.length === 0) {
  console.error(`no test files below test/ for: ${areas.join(', ') || 'everything'}`)
  process.exit(2)
}

// Thousands of processes of the same code: each need not compile it again.
const compiled = mkdtempSync(join(tmpdir(), 'holdfast-compiled-'))
process.env.NODE_COMPILE_CACHE = compiled

// Each system suite starts servers of its own: about a gigabyte.
const concurrency = Math.max(1, Math.min(availableParallelism() + 1, Math.floor(totalmem() / 2e9)))
/** More files than this do not fail by chance. */
const runAgainFiles = 4

const first = await runs(files, concurrency)
const again =
  first.failed.size > 0 && first.failed.size <= runAgainFiles
    ? await runs([...first.failed.keys()], 1)
    : undefined
rmSync(compiled, { recursive: true, force: true })

const skipped = [...first.skipped, ...(again?.skipped ?? [])]
const failed = again ?? first
for (const name of skipped) console.log(`skipped: ${name}`)
let { passed } = first
if (again) {
  for (const [file, names] of first.failed) {
    for (const name of names) {
      const failedAgain = again.failed.get(file)?.includes(name)
      if (!failedAgain) passed += 1
      const word = failedAgain ? 'failed twice' : 'UNSTEADY, passed only when run again'
      console.log(`${word}: ${relative(root, file)}: ${name}`)
    }
  }
}
const failures = [...failed.failed.values()].flat().length
console.log(`${passed} passed, ${failures} failed, ${skipped.length} skipped`)
process.exitCode = failures > 0 || skipped.length > 0 || passed === 0 ? 1 : 0

type Failure = EventData.TestFail & {
  /** The suite that was started; `file` is where the test is written. */
  entryFile?: string
  details: { error: { failureType?: string } }
}

interface Ran {
  passed: number
  skipped: string[]
  /** Names of tests by the path of the suite that they failed in. */
  failed: Map<string, string[]>
}

async function runs(suites: string[], atOnce: number): Promise<Ran> {
  const ran: Ran = { passed: 0, skipped: [], failed: new Map() }
  const stream = run({ files: suites, concurrency: atOnce, cwd: root, timeout: 20 * 60 * 1000 })
  stream.on('test:pass', event => {
    if (event.skip !== undefined || event.todo !== undefined) ran.skipped.push(event.name)
    else if (event.details.type !== 'suite') ran.passed += 1
  })
  stream.on('test:fail', (event: Failure) => {
    // Its tests have been named. A suite whose set-up or end failed is itself what failed.
    if (event.details.error.failureType === 'subtestsFailed') return
    // Tests that many suites share are in a file of their own; a suite that ended badly names itself.
    const suite = event.entryFile ?? event.file ?? 'unknown'
    ran.failed.set(suite, [...(ran.failed.get(suite) ?? []), event.name])
  })
  stream.compose(spec).pipe(process.stdout, { end: false })
  await once(stream, 'close')
  return ran
}
