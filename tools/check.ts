/** `npm run check`: format and lint, types, architecture arrows, dead code. Runs all, fails if one does. */
import { spawnSync } from 'node:child_process'

const checks: [string, string[]][] = [
  ['format and lint', ['biome', 'ci', '.']],
  ['types', ['tsc', '-p', '.']],
  [
    'architecture',
    [
      'depcruise',
      '--config',
      '.dependency-cruiser.mjs',
      'model',
      'engines',
      'hosts',
      'storage',
      'catalog',
      'activities',
      'workflows',
      'api',
      'cli',
    ],
  ],
  ['dead code', ['knip']],
]

let failed = 0
for (const [name, [program = '', ...args]] of checks) {
  const begun = Date.now()
  const result = spawnSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' })
  const ok = result.status === 0
  console.log(`${ok ? '✓' : '✗'} ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`)
  if (!ok) {
    failed += 1
    console.log(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error ? String(result.error) : ''}`)
  }
}
console.log(`${checks.length - failed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
