import assert from 'node:assert/strict'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { freePort } from '../../cli/free-port.ts'
import { absoluteConnectionUrl, absoluteDestinationUri, holdsPassword } from '../../cli/paths.ts'
import { holdfast, launcher } from './run.ts'

describe('the command line', () => {
  let home = ''
  let env: Record<string, string> = {}
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'holdfast-cli-'))
    env = { HOLDFAST_HOME: home, HOLDFAST_URL: `http://127.0.0.1:${await freePort()}` }
  })
  after(() => rm(home, { recursive: true, force: true }))

  const misuse: [string, string[]][] = [
    ['an unknown command', ['frobnicate']],
    ['an unknown option', ['backups', 'list', '--frobnicate']],
    ['a missing argument', ['backup']],
    ['a superfluous argument', ['backup', 'shop', 'too', 'many']],
    ['a number that is none', ['backup', 'shop', '--jobs', 'many']],
    ['a label without value', ['backup', 'shop', '--label', 'nothing']],
    ['a missing target', ['restore', 'shop:latest', '--database', 'copy']],
    ['two secrets', ['connection', 'add', 'a', 'postgres://h/d', '--secret-env', 'A', '--secret-file', 'b']],
    [
      'a secret variable that is not set',
      ['connection', 'add', 'a', 'postgres://h/d', '--secret-env', 'HF_NOT_SET'],
    ],
    [
      'a secret file that is not there',
      ['connection', 'add', 'a', 'postgres://h/d', '--secret-file', '/nowhere/x'],
    ],
    ['credentials that are not set', ['destination', 'add', 'a', 's3://bucket', '--credentials-env']],
    ['a choice that is none', ['backups', 'verify', 'shop:latest', '--level', 'thorough']],
    ['a profile without an address', ['profile', 'add', 'prod']],
    ['two tokens', ['profile', 'add', 'prod', '--url', 'http://h', '--token-env', 'A', '--token-file', 'b']],
    ['recovering without saying what', ['recover', '/tmp/nowhere']],
    ['recovering in two ways', ['recover', '/tmp/nowhere', '--list', '--out', 'x']],
    ['a store of a kind there is not', ['recover', 'ftp://host/x', '--list']],
  ]
  for (const [what, args] of misuse) {
    test(`${what} is a usage error`, async () => {
      const unset = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined }
      const { code, stdout, stderr } = await holdfast(args, { env: { ...env, ...unset } })
      assert.equal(code, 2, stderr)
      assert.equal(stdout, '')
      assert.match(stderr, /^error request\.invalid: .+\nhint: .+\n$/)
    })
  }

  test('a group without a command explains itself and fails', async () => {
    const { code, stderr } = await holdfast(['connection'], { env })
    assert.equal(code, 2)
    assert.match(stderr, /Usage: holdfast connection/)
  })

  test('no API: exit 8 and how to start it', async () => {
    for (const args of [
      ['backups', 'list'],
      ['backup', 'shop'],
      ['operation', 'cancel', 'x', '--json'],
    ]) {
      const { code, stdout, stderr } = await holdfast(args, { env })
      assert.equal(code, 8)
      assert.equal(stdout, '')
      assert.match(
        stderr,
        /^error api\.unreachable: The API at http:\/\/127\.0\.0\.1:\d+ does not answer.*\nhint: .*holdfast up/,
      )
    }
  })

  test('colours are shown when forced, never with NO_COLOR', async () => {
    const forced = await holdfast(['backup'], { env: { ...env, FORCE_COLOR: '1' } })
    assert.ok(forced.stderr.includes('\u001b['))
    const never = await holdfast(['backup'], { env: { ...env, NO_COLOR: '1' } })
    assert.ok(!never.stderr.includes('\u001b['))
    const piped = await holdfast(['backup'], { env })
    assert.ok(!piped.stderr.includes('\u001b['))
  })

  test('a setting that is not valid is named', async () => {
    const { code, stderr } = await holdfast(['backups', 'list'], {
      env: { ...env, HOLDFAST_LOG_LEVEL: 'loud' },
    })
    assert.equal(code, 2)
    assert.match(stderr, /^error settings\.invalid: HOLDFAST_LOG_LEVEL is "loud"/)
  })

  test('a password in the URL is warned about and shown nowhere', async () => {
    const { code, stdout, stderr } = await holdfast(
      ['connection', 'add', 'shop', 'postgres://shop:canary-7731@127.0.0.1/shop'],
      { env },
    )
    assert.equal(code, 8)
    assert.match(stderr, /warning: the password in the URL/)
    assert.ok(!`${stdout}${stderr}`.includes('canary-7731'))
  })

  test('a key file that is not one is refused', async () => {
    const path = join(home, 'not-a-key.json')
    await writeFile(path, '{"secret": "canary-7732"}')
    const refused = await holdfast(['recover', home, '--key', path, '--list'], { env })
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /^error key\.invalid/)
    assert.ok(!refused.stderr.includes('canary-7732'))
    const missing = await holdfast(['recover', home, '--key', join(home, 'none.json'), '--list'], { env })
    assert.match(missing.stderr, /^error key\.missing/)
    assert.equal(missing.code, 1)
  })

  test('the launcher works through relative and absolute links', async () => {
    const first = join(home, 'holdfast')
    const second = join(home, 'hf')
    await symlink(launcher, first)
    await symlink('holdfast', second)
    const { code, stdout } = await holdfast(['--version'], { program: second, cwd: home, env })
    assert.equal(code, 0)
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/)
  })
})

test('paths are taken from where one stands', () => {
  assert.equal(absoluteConnectionUrl('shop.db', '/here'), '/here/shop.db')
  assert.equal(absoluteConnectionUrl('./a:b.db', '/here'), '/here/a:b.db')
  assert.equal(absoluteConnectionUrl('sqlite:shop.db', '/here'), 'sqlite:/here/shop.db')
  assert.equal(absoluteConnectionUrl('sqlite:///abs/x', '/here'), 'sqlite:///abs/x')
  assert.equal(absoluteConnectionUrl('postgres://h/d', '/here'), 'postgres://h/d')
  assert.equal(absoluteDestinationUri('backups', '/here'), '/here/backups')
  assert.equal(absoluteDestinationUri('file:backups', '/here'), '/here/backups')
  assert.equal(absoluteDestinationUri('file:///abs', '/here'), 'file:///abs')
  assert.equal(absoluteDestinationUri('s3://b/p', '/here'), 's3://b/p')
})

test('a password in a URL is recognised', () => {
  assert.ok(holdsPassword('postgres://u:p@h/d'))
  assert.ok(holdsPassword('postgres://:p@h/d'))
  assert.ok(!holdsPassword('postgres://u@h:5432/d'))
  assert.ok(!holdsPassword('sqlite:/tmp/a:b@c'))
  assert.ok(!holdsPassword('/tmp/a:b@c'))
})
