/** Every command there is, walked from the one table, must keep the promises of docs/cli.md. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Command, CommanderError } from 'commander'
import { freePort } from '../../cli/free-port.ts'
import { commands, createProgram } from '../../cli/program.ts'
import { leavesOf } from '../../cli/tree.ts'
import { commandsPage, commandsText, helpOf } from '../../tools/commands.ts'
import { holdfast } from './run.ts'

const program = await createProgram()
const leaves = leavesOf(program)

/** Commands that need no API: they run one, or work without. Every other one is a client and says so. */
const alone = [
  'up',
  'api',
  'worker',
  'recover',
  'catalog move',
  'drill check',
  'drill full',
  'profile',
  'login',
  'logout',
  'diagnose',
  'doctor',
  'completion',
  'install',
  'uninstall',
  'keys escrow-check',
  'wal',
]

/** Arguments and options a command cannot do without, as somebody may type them. */
function necessary(command: Command): string[] {
  const values = command.registeredArguments.filter(one => one.required).map(one => sample(one.name()))
  const options = command.options
    .filter(option => option.mandatory)
    .flatMap(option => [option.long ?? '', option.argChoices?.[0] ?? sample(option.attributeName())])
  return [...values, ...options]
}

const sample = (name: string): string =>
  ({
    url: 'postgres://h/d',
    uri: '/nowhere',
    backup: '20261121T031400Z-full-9f3kq2',
    operation: 'op-abcdef',
    before: '2026-01-01',
    to: 'latest',
  })[name] ?? 'x'

/** Each is a process of its own: a few at a time. */
async function each<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  for (let i = 0; i < items.length; i += 3) await Promise.all(items.slice(i, i + 3).map(act))
}

describe('every command', () => {
  let home = ''
  let env: Record<string, string> = {}
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'holdfast-cli-'))
    env = {
      HOLDFAST_HOME: join(home, 'none'),
      XDG_CONFIG_HOME: home,
      HOLDFAST_URL: `http://127.0.0.1:${await freePort()}`,
    }
  })
  after(() => rm(home, { recursive: true, force: true }))

  test('is loaded by its words, alone', async () => {
    const namesOf = (made: Command) => made.commands.map(command => command.name())
    for (const [words, load] of commands) {
      const own = new Command()
      const add = await load()
      add(own)
      assert.deepEqual(namesOf(own), words)
      for (const word of words.filter(one => one !== 'completion')) {
        assert.deepEqual(namesOf(await createProgram(['--home', 'status', '--json', word, 'up'])), words)
      }
    }
    for (const args of [[], ['--help'], ['help', 'up'], ['updog', 'status'], ['completion', 'bash']]) {
      assert.equal((await createProgram(args)).commands.length, program.commands.length, args.join(' '))
    }
  })

  test('explains itself with an example', () => {
    for (const { path, command } of leaves) {
      const text = helpOf(command)
      assert.match(text, new RegExp(`^Usage: holdfast ${path.join(' ')} `))
      assert.match(text, new RegExp(`\nExamples?:\n(.*\n)*.*holdfast ${path.join(' ')}`), path.join(' '))
    }
  })

  /** What main.ts turns into `request.invalid` and exit 2; that it does is shown in arguments.test.ts. */
  const refusesToRun = (args: readonly string[]) =>
    assert.rejects(
      createProgram(args).then(made => made.parseAsync(args, { from: 'user' })),
      (error: unknown) => error instanceof CommanderError && error.exitCode !== 0,
      args.join(' '),
    )

  test('refuses an option that it does not have', async () => {
    for (const { path, command } of leaves) {
      await refusesToRun([...path, ...necessary(command), '--frobnicate'])
    }
  })

  test('refuses a missing argument', async () => {
    for (const { path, command } of leaves) {
      if (command.registeredArguments.some(one => one.required)) await refusesToRun(path)
    }
  })

  test('that is a client ends with 8 and a hint where no API answers, also for programs', async () => {
    const clients = leaves.filter(
      ({ path }) => !alone.includes(path[0] ?? '') && !alone.includes(path.join(' ')),
    )
    await each(clients, async ({ path, command }) => {
      const args = [...path, ...necessary(command), '--json']
      const { code, stdout, stderr } = await holdfast(args, { env, input: 'yes\n' })
      assert.equal(code, 8, `${args.join(' ')}: ${stderr}`)
      assert.equal(stdout, '', args.join(' '))
      assert.match(
        stderr,
        /^error api\.unreachable: The API at .+ does not answer.*\nhint: .+\n$/,
        args.join(' '),
      )
    })
  })

  test('says in few words what it does', () => {
    for (const { path, command } of leaves) {
      assert.ok(command.description().length > 5, path.join(' '))
      assert.ok(command.description().length < 100, path.join(' '))
    }
  })

  test('is in docs/commands.md as --help says it (else: npm run commands)', async () => {
    assert.equal(await readFile(commandsPage, 'utf8'), await commandsText())
  })
})
