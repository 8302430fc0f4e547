/** `holdfast diagnose`: what files are, and whether they are whole, without a server. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { Diagnosis } from '../../cli/diagnose/file.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop } from '../support/shop.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { holdfast } from './run.ts'

const run = promisify(execFile)
const example = join(import.meta.dirname, '../../docs/formats/example')

let dir: Scratch
let server: TestPostgres
const at = (name: string) => join(dir.path, name)
before(async () => {
  dir = await scratch()
  server = await startPostgres()
  await server.sql('CREATE DATABASE shop')
  await makePostgresSample(server.url('shop'), { rows: 3000 })
  const url = server.url('shop')
  await run('pg_dump', ['-Fc', '-f', at('shop.dump'), '-d', url])
  await run('pg_dump', ['-f', at('shop.sql'), '-d', url])
  await run('pg_dump', ['-Fd', '-f', at('shop.dir'), '-d', url])
  makeShop(at('shop.sqlite'), { rows: 4000 })
  const { stdout } = await run('sqlite3', [at('shop.sqlite'), '.dump'], { maxBuffer: 1 << 28 })
  await writeFile(at('shop-sqlite.sql'), stdout)
})
after(async () => {
  await server?.stop()
  await dir?.[Symbol.asyncDispose]()
})

const diagnose = async (path: string, ...more: string[]): Promise<Diagnosis & { exit: number | null }> => {
  const { code, stdout, stderr } = await holdfast(['diagnose', path, '--json', ...more])
  assert.notEqual(stdout, '', stderr)
  return { ...(JSON.parse(stdout) as Diagnosis), exit: code }
}
const expect = (found: Diagnosis & { exit: number | null }, wanted: Partial<Diagnosis> & { exit: number }) =>
  assert.deepEqual({ ...found, ...wanted }, found)

describe('diagnose', () => {
  test('dumps of every format, whole', async () => {
    for (const [file, format] of [
      ['shop.dump', 'pgdump-custom'],
      ['shop.sql', 'pgdump-plain'],
      ['shop.dir', 'pgdump-directory'],
      ['shop.sqlite', 'sqlite-file'],
      ['shop-sqlite.sql', 'sqlite-dump'],
    ] as const) {
      expect(await diagnose(at(file), '--deep'), { format, state: 'whole', exit: 0 })
    }
    expect(await diagnose(at('shop.dump')), { format: 'pgdump-custom', state: 'not-read', exit: 0 })
  })
  test('in every compression, whole and cut', async () => {
    for (const [program, suffix] of [
      ['gzip', 'gz'],
      ['zstd', 'zst'],
      ['xz', 'xz'],
      ['bzip2', 'bz2'],
    ] as const) {
      const packed = at(`packed.sql.${suffix}`)
      const { stdout } = await run(program, ['-c', at('shop.sql')], {
        encoding: 'buffer',
        maxBuffer: 1 << 28,
      })
      await writeFile(packed, stdout)
      expect(await diagnose(packed, '--deep'), {
        format: 'pgdump-plain',
        compression: program,
        state: 'whole',
        exit: 0,
      })
      await writeFile(packed, stdout.subarray(0, Math.floor(stdout.length * 0.9)))
      const cut = await diagnose(packed, '--deep')
      expect(cut, { compression: program, state: 'damaged', exit: 1 })
      assert.equal(cut.error?.code, 'artifact.truncated', cut.detail)
    }
  })
  test('the place of the damage', async () => {
    const bytes = await readFile(at('shop.sql'))
    const row = bytes.indexOf('\n500\t') + 1
    await writeFile(
      at('torn.sql'),
      Buffer.concat([bytes.subarray(0, row), Buffer.alloc(512), bytes.subarray(row + 512)]),
    )
    const found = await diagnose(at('torn.sql'), '--deep')
    expect(found, { state: 'damaged', exit: 1 })
    assert.equal(found.error?.context?.line, bytes.toString('utf8', 0, row).split('\n').length)
    assert.match(String(found.error?.context?.table), /^public\.\w+$/)
    const said = await holdfast(['diagnose', at('torn.sql'), '--deep'])
    assert.match(said.stdout, /damaged/)
    assert.match(said.stdout, /NUL byte.*table public\.\w+, row \d+, line \d+/)
  })
  test('a directory without one of its files', async () => {
    await cp(at('shop.dir'), at('less.dir'), { recursive: true })
    const [first = ''] = (await readdir(at('less.dir'))).filter(name => /^\d+\.dat/.test(name))
    await rm(join(at('less.dir'), first))
    const found = await diagnose(at('less.dir'), '--deep')
    expect(found, { state: 'damaged', exit: 1 })
    assert.equal(found.error?.context?.member, first.replace('.gz', ''))
  })
  test('what Holdfast writes', async () => {
    const folder = join(example, 'store/shop/backups/20261121T031400Z-full-9f3kq2')
    expect(await diagnose(join(folder, 'manifest.json')), {
      format: 'holdfast-manifest/1',
      state: 'whole',
      exit: 0,
    })
    expect(await diagnose(folder), { format: 'holdfast-manifest/1', exit: 0 })
    expect(await diagnose(join(folder, '7Qm2vXbT4s/shop.sql.zst.tink')), {
      format: 'tink',
      encrypted: true,
      exit: 0,
    })
    const manifest = await readFile(join(folder, 'manifest.json'))
    await writeFile(at('cut.json'), manifest.subarray(0, -50))
    const cut = await diagnose(at('cut.json'))
    expect(cut, { state: 'damaged', exit: 1 })
    assert.equal(cut.error?.code, 'manifest.invalid')
  })
  test('what is nothing of this, and what is not there', async () => {
    await writeFile(at('letter.txt'), 'Dear administrator')
    await writeFile(at('empty'), '')
    await mkdir(at('empty.dir'), { recursive: true })
    for (const name of ['letter.txt', 'empty', 'empty.dir']) {
      expect(await diagnose(at(name), '--deep'), { format: null, state: 'unknown', exit: 2 })
    }
    assert.equal((await holdfast(['diagnose', at('nowhere')])).code, 4)
  })
})
