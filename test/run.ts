/**
 * `npm test`: runs every suite, `test/<area>/*.test.ts`, a few files at a time. A skipped test fails the run: a suite
 * that did not run must not look green. `npm test -- hosts storage` runs the named areas; `--soak` adds `*.soak.ts`.
 */
import { globSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import { run } from 'node:test'
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

// Each system suite starts servers of its own: about a gigabyte.
const concurrency = Math.max(1, Math.min(availableParallelism() + 1, Math.floor(totalmem() / 2e9)))
let passed = 0
let failed = 0
const skipped: string[] = []
const stream = run({ files, concurrency, cwd: root, timeout: 20 * 60 * 1000 })
stream.on('test:pass', event => {
  if (event.skip !== undefined || event.todo !== undefined) skipped.push(event.name)
  else if (event.details.type !== 'suite') passed += 1
})
stream.on('test:fail', event => {
  if (event.details.type !== 'suite') failed += 1
})
stream.compose(spec).pipe(process.stdout)
stream.on('close', () => {
  for (const name of skipped) console.log(`skipped: ${name}`)
  console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  process.exitCode = failed > 0 || skipped.length > 0 || passed === 0 ? 1 : 0
})
