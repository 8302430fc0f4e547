/** Completion as the shells do it: bash, zsh and fish themselves, asked what a TAB offers. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { attemptOf, commit, newBackupId, opened } from '../api/backups.ts'
import { startTestApi, type TestApi } from '../api/support.ts'
import { operation } from '../catalog/support.ts'
import { needShells } from '../servers/shells.ts'
import { holdfast, launcher } from './run.ts'

describe('completion', () => {
  let folder = ''
  let api: TestApi
  let env: Record<string, string | undefined> = {}
  const backupId = newBackupId()

  /** Committed as a worker does it, then read into the catalog. */
  const addBackup = async () => {
    const names = { operationId: 'op-complete0001', backupId, connection: 'shop', destination: 'vault' }
    await api.restart(async () => {
      const secretKey = (await ensureSecretKey(api.settings)).key
      const catalog = await openCatalog({ url: api.settings.catalogUrl, secretKey })
      await insertOperation(
        catalog,
        operation(names.operationId, { backupId, state: 'running', runId: 'r' }),
        null,
      )
      await catalog.close()
    })
    const to = await opened(api, 'vault')
    await commit(api, to, names, await attemptOf(api, to, names))
    await to.close()
    assert.equal((await api.call('POST', '/v1/catalog/rebuild', {})).status, 200)
  }

  before(async () => {
    await needShells('bash', 'zsh', 'fish')
    folder = await mkdtemp(join(tmpdir(), 'holdfast-completion-'))
    await mkdir(join(folder, 'bin'))
    await symlink(launcher, join(folder, 'bin/holdfast'))
    await writeFile(join(folder, 'a key.json'), '')
    api = await startTestApi()
    await api.addSqlite('shop')
    await api.addSqlite('notes')
    await api.addDestination('vault')
    await addBackup()
    env = {
      ...process.env,
      PATH: `${folder}/bin:${process.env.PATH}`,
      HOLDFAST_HOME: api.home,
      HOLDFAST_URL: api.api.url,
      XDG_CONFIG_HOME: join(folder, 'config'),
      HOME: folder,
    }
    const add = ['profile', 'add', 'prod', '--url', api.api.url, '--token-file', join(api.home, 'api.token')]
    assert.equal((await holdfast(add, { env })).code, 0)
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { stdout, code } = await holdfast(['completion', shell], { env })
      assert.equal(code, 0)
      await writeFile(join(folder, `completion.${shell}`), stdout)
    }
  })
  after(async () => {
    await api.stop()
    await rm(folder, { recursive: true, force: true })
  })

  const run = async (program: string, args: string[], extra: Record<string, string> = {}) => {
    const { stdout } = await promisify(execFile)(program, args, { cwd: folder, env: { ...env, ...extra } })
    return stdout.split('\n').filter(line => line !== '')
  }

  /** As readline asks: with the line, and what it calls words. */
  const bash = (line: string, extra: Record<string, string> = {}) =>
    run(
      'bash',
      [
        '--norc',
        '-c',
        `source "$HOME/completion.bash"
         COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
         COMP_LINE=$1 COMP_POINT=\${#1}
         $(complete -p holdfast | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
         printf '%s\\n' "\${COMPREPLY[@]}"`,
        'bash',
        line,
      ],
      extra,
    )
  const fish = async (line: string, extra: Record<string, string> = {}) =>
    (
      await run(
        'fish',
        ['--no-config', '-c', 'source "$HOME/completion.fish"; complete -C $argv', '--', line],
        extra,
      )
    ).map(item => item.split('\t')[0] ?? '')

  /** What zsh makes of the line after a TAB, in a real terminal. */
  const zsh = async (line: string): Promise<string> => {
    const driver = `
      zmodload zsh/zpty
      zpty shell zsh -f -i
      zpty -w shell 'PS1= PS2=; stty -echo; autoload -U compinit; compinit -u -d $HOME/dump; source $HOME/completion.zsh; show() { print -r -- "LINE""<$BUFFER>" }; zle -N show; bindkey "^X" show; print "REA""DY"'
      zpty -r shell seen '*READY*'
      zpty -w -n shell "$1"$'\\t\\C-x'
      zpty -r shell seen '*LINE<*>*'
      print -r -- "$seen"
      zpty -d shell`
    const child = spawn('zsh', ['-f', '-c', driver, 'zsh', line], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    let trouble = ''
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      trouble += part
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
    await new Promise(resolve => child.once('close', resolve))
    clearTimeout(timer)
    const found = [...text.matchAll(/LINE<([^>]*)>/g)].at(-1)?.[1]
    assert.ok(found !== undefined, `${line}: ${text} ${trouble}`)
    return found
  }

  test('bash: commands, options, choices, files', async () => {
    assert.deepEqual(await bash('holdfast conn'), ['connection'])
    assert.deepEqual((await bash('holdfast connection ')).sort(), [
      'add',
      'change',
      'check',
      'list',
      'policy',
      'remove',
      'show',
    ])
    assert.deepEqual(await bash('holdfast backup shop --enc'), ['--encrypt-to'])
    assert.deepEqual(await bash('holdfast backups verify x --level '), ['exists', 'checksum', 'deep'])
    assert.deepEqual(await bash('holdfast backups verify x --level=che'), ['checksum'])
    assert.deepEqual(await bash('holdfast completion z'), ['zsh'])
    assert.deepEqual(await bash('holdfast recover x --key a'), ['a key.json'])
    assert.ok((await bash('holdfast --')).includes('--profile'))
    assert.ok(!(await bash('holdfast comp')).includes('complete'))
  })

  test('bash: what there is, asked of the API', async () => {
    assert.deepEqual((await bash('holdfast backup ')).sort(), ['notes', 'shop'])
    assert.deepEqual(await bash('holdfast backup shop --to v'), ['vault'])
    assert.deepEqual(await bash('holdfast backup shop --to=v'), ['vault'])
    assert.deepEqual(await bash('holdfast --json restore x --target=n'), ['notes'])
    assert.deepEqual(await bash('holdfast --profile '), ['prod'])
    const elsewhere = { HOLDFAST_URL: 'http://127.0.0.1:9' }
    assert.deepEqual(await bash('holdfast --profile prod connection show s', elsewhere), ['shop'])
  })

  test('a name with a colon; readline wants only what follows it', async () => {
    assert.deepEqual((await bash('holdfast backups show shop:')).sort(), ['latest', 'previous'])
    assert.deepEqual(await bash('holdfast restore shop:la'), ['latest'])
    assert.deepEqual(await bash(`holdfast backups verify ${backupId.slice(0, 9)}`), [backupId])
    assert.equal(await zsh('holdfast backups show shop:l'), 'holdfast backups show shop:latest ')
    assert.deepEqual(await fish('holdfast backups show shop:l'), ['shop:latest'])
  })

  test('fish: commands with their descriptions, options, values', async () => {
    assert.deepEqual(await fish('holdfast conn'), ['connection'])
    assert.deepEqual((await fish('holdfast connection ')).sort(), [
      'add',
      'change',
      'check',
      'list',
      'policy',
      'remove',
      'show',
    ])
    assert.deepEqual(await fish('holdfast backup shop --enc'), ['--encrypt-to'])
    assert.deepEqual((await fish('holdfast backups verify x --level ')).sort(), [
      'checksum',
      'deep',
      'exists',
    ])
    assert.deepEqual(await fish('holdfast backup shop --to '), ['vault'])
    assert.deepEqual((await fish('holdfast --json backup ')).sort(), ['notes', 'shop'])
    assert.deepEqual(await fish('holdfast completion z'), ['zsh'])
    assert.deepEqual(await fish('holdfast --profile '), ['prod'])
  })

  test('zsh: in a terminal, the line after a TAB', async () => {
    assert.equal(await zsh('holdfast conn'), 'holdfast connection ')
    assert.equal(await zsh('holdfast backup shop --encr'), 'holdfast backup shop --encrypt-to ')
    assert.equal(
      await zsh('holdfast backups verify x --level che'),
      'holdfast backups verify x --level checksum ',
    )
    assert.equal(await zsh('holdfast backup sh'), 'holdfast backup shop ')
    assert.equal(await zsh('holdfast backup shop --to=v'), 'holdfast backup shop --to=vault ')
  })

  test('an API that does not answer costs a moment and offers nothing', async () => {
    const server = createServer(socket => socket.on('error', () => {}))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    assert.ok(address !== null && typeof address === 'object')
    try {
      const silent = { HOLDFAST_URL: `http://127.0.0.1:${address.port}` }
      assert.deepEqual(await bash('holdfast backup ', silent), [])
      assert.deepEqual(await bash('holdfast backup ', { HOLDFAST_URL: 'http://127.0.0.1:9' }), [])
    } finally {
      server.close()
    }
  })
})
