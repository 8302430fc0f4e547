/** The README's commands are run as they stand there, by a shell, against a Holdfast that was started as it says. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import { eventually } from '../system/stack.ts'

const root = join(import.meta.dirname, '../..')

describe('README', () => {
  let directory = ''
  let env: Record<string, string | undefined> = {}
  let up: ChildProcess
  let readme = ''

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-readme-'))
    env = {
      ...process.env,
      PATH: `${root}/bin:${process.env.PATH}`,
      HOLDFAST_HOME: join(directory, '.holdfast'),
      HOLDFAST_API_LISTEN: `127.0.0.1:${await freePort()}`,
    }
    readme = await readFile(join(root, 'README.md'), 'utf8')
    up = spawn(join(root, 'bin/holdfast'), ['up'], { cwd: directory, env, stdio: 'ignore' })
    const answers = () => promisify(execFile)('holdfast', ['backups', 'list'], { cwd: directory, env })
    await eventually('`holdfast up` answers', async () => ((await answers()) ? true : undefined), 120)
  })

  after(async () => {
    const gone = new Promise(resolve => up.once('exit', resolve))
    up.kill('SIGTERM')
    await gone
    await rm(directory, { recursive: true, force: true })
  })

  test('five minutes', async () => {
    const block = /<!-- run by test\/readme -->\n```sh\n([\s\S]*?)```/.exec(readme)?.[1]
    assert.ok(block, 'the block is there')
    const script = `set -eu\n${block}\nsqlite3 shop-again.db "SELECT count(*) FROM orders"\n`
    const { stdout } = await promisify(execFile)('bash', ['-c', script], { cwd: directory, env })
    assert.match(stdout, /1\|tea\n2\|Käse/)
    assert.match(stdout, /\n2\n$/, 'recovered without any server')
  })

  test('every link leads somewhere, every script exists', async () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(match => match[1] ?? '')
    assert.ok(links.length > 5)
    for (const link of links) await readFile(join(root, link))
    const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>
    }
    for (const [, name] of readme.matchAll(/npm (?:run )?(demo|test|bench|check)\b/g))
      assert.ok(name && name in scripts)
  })
})
