/** Programs that tests build with Go from module versions committed below tools/, once per machine, into the user's cache. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { isThere, locked, toolsDirectory } from './cache.ts'

const recipes = join(import.meta.dirname, '../../tools')
const buildMinutes = 40

/** Program's name → its package, by the recipe that pins them. */
const programs = {
  /** The compose specification's own loader: schema, interpolation, merging, consistency. */
  compose: { 'compose-spec': '.' },
  /** The server of docker-compose.yml and its schema tool, of the same version as the images. */
  'temporal-server': {
    'temporal-server': 'go.temporal.io/server/cmd/server',
    'temporal-sql-tool': 'go.temporal.io/server/cmd/tools/sql',
  },
} as const

/** Files of modules that belong to a recipe's programs: name → module and path in it. */
const files: Partial<Record<keyof typeof programs, Record<string, readonly [string, string]>>> = {
  'temporal-server': { 'entrypoint.sh': ['go.temporal.io/server', 'docker/scripts/sh/entrypoint.sh'] },
}

/** Directory that holds the recipe's programs; builds them if this machine has not got them yet. */
export async function goTools(recipe: keyof typeof programs): Promise<string> {
  const source = join(recipes, recipe)
  const hash = createHash('sha256')
  for (const file of (await readdir(source)).sort()) hash.update(await readFile(join(source, file)))
  const digest = hash.digest('hex').slice(0, 8)
  const home = join(toolsDirectory, `${recipe}-${digest}`)
  if (await isThere(home)) return home
  await mkdir(toolsDirectory, { recursive: true })
  await locked(`${home}.lock`, async () => {
    if (!(await isThere(home))) await build(recipe, source, home)
  })
  return home
}

async function build(recipe: keyof typeof programs, source: string, home: string): Promise<void> {
  const scratch = await mkdtemp(join(toolsDirectory, `building-${recipe}-`))
  const started = Date.now()
  const seconds = () => Math.round((Date.now() - started) / 1000)
  const say = (text: string) => process.stderr.write(`go: ${text}\n`)
  say(`building ${Object.keys(programs[recipe]).join(' and ')}, once per machine`)
  const timer = setInterval(() => say(`building ${recipe} … ${seconds()} s`), 30_000)
  try {
    // Go writes to go.mod's folder at times; the committed one stays as it is.
    await cp(source, join(scratch, 'src'), { recursive: true })
    await mkdir(join(scratch, 'bin'))
    for (const [name, package_] of Object.entries(programs[recipe])) {
      await promisify(execFile)(
        'go',
        ['build', '-ldflags=-s -w', '-o', join(scratch, 'bin', name), package_],
        {
          cwd: join(scratch, 'src'),
          // The build cache takes gigabytes that nobody needs afterwards.
          env: { ...process.env, GOCACHE: process.env.GOCACHE || join(scratch, 'cache') },
          timeout: buildMinutes * 60_000,
          maxBuffer: 64 * 1024 * 1024,
        },
      )
    }
    for (const [name, [module, path]] of Object.entries(files[recipe] ?? {})) {
      const listed = await promisify(execFile)('go', ['list', '-m', '-f', '{{.Dir}}', module], {
        cwd: join(scratch, 'src'),
      })
      await writeFile(join(scratch, 'bin', name), await readFile(join(listed.stdout.trim(), path)), {
        mode: 0o755,
      })
    }
    await rename(join(scratch, 'bin'), home)
    say(`${recipe} built in ${seconds()} s`)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${recipe} could not be built with Go (1.26.4 or newer, https://go.dev/dl): ${reason}`)
  } finally {
    clearInterval(timer)
    await rm(scratch, { recursive: true, force: true })
  }
}
