/** Readers on real dumps: whole ones of every format, and the place of each kind of damage. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { readWhole } from '../../activities/reading.ts'
import { claimOf, readerOf } from '../../engines/index.ts'
import type { Host } from '../../hosts/host.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop } from '../support/shop.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const run = promisify(execFile)

let dir: Scratch
let host: Host
let server: TestPostgres
let operations = 0
before(async () => {
  dir = await scratch()
  host = await openLocalHost({ name: 'local', stagingRoot: join(dir.path, 'staging') })
  server = await startPostgres()
  await server.sql('CREATE DATABASE shop')
  await makePostgresSample(server.url('shop'), { rows: 3000, oddities: true })
})
after(async () => {
  await server?.stop()
  await dir?.[Symbol.asyncDispose]()
})

/** In small pieces of different lengths, so that every boundary is met somewhere. */
async function* pieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 65_521 || 1) {
    yield bytes.subarray(at, at + size)
  }
}
const read = async (format: string, bytes: Buffer): Promise<string> => {
  const operation = `op-${++operations}`
  try {
    const signal = new AbortController().signal
    return await readWhole(readerOf(format), pieces(bytes), { host, operation, signal })
  } finally {
    await host.removeOperation(operation)
  }
}
const expectDamage = async (
  format: string,
  bytes: Buffer,
  code: ErrorCode,
  said: RegExp,
  place: Record<string, string | number> = {},
): Promise<HoldfastError> => {
  try {
    assert.fail(`read as ${await read(format, bytes)}`)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    assert.equal(error.code, code, error.message)
    assert.match(error.message, said)
    assert.deepEqual({ ...error.context, ...place }, error.context, error.message)
    return error
  }
}
const dump = async (...argv: string[]): Promise<Buffer> => {
  const { stdout } = await run('pg_dump', ['-d', server.url('shop'), ...argv], {
    encoding: 'buffer',
    maxBuffer: 1 << 28,
  })
  return stdout
}
const changed = (bytes: Buffer, at: number, put: Buffer | string): Buffer => {
  const copy = Buffer.from(bytes)
  Buffer.from(put).copy(copy, at)
  return copy
}
/** Where the row of order 500 begins; its length stands before it. */
const row500 = (bytes: Buffer): number => {
  const at = bytes.toString('latin1').search(/\D500\t\d+\t/)
  assert.ok(at > 0)
  return at + 1
}
const without = (bytes: Buffer, from: number, to: number): Buffer =>
  Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])

describe('pg_dump, custom format', () => {
  for (const level of ['0', '6']) {
    test(`-Z${level}: whole`, async () => {
      const bytes = await dump('-Fc', `-Z${level}`)
      assert.equal(claimOf(bytes)?.reader.format, 'pgdump-custom')
      const words = await read('pgdump-custom', bytes)
      assert.match(
        words,
        /custom format of shop, PostgreSQL \d+.*: \d+ entries, data of \d+ tables, [\d,]+ rows; pg_restore lists \d+ of \d+ entries/,
      )
      const [, listed, entries] = /lists (\d+) of (\d+)/.exec(words) ?? []
      assert.ok(Number(listed) > 20 && Number(listed) <= Number(entries), words)
    })
  }
  test('rows are counted', async () => {
    const rows = await server.sql(
      'SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_items)',
      'shop',
    )
    const tables = ['customers', 'orders', 'order_items'].flatMap(table => ['-t', table])
    const words = await read('pgdump-custom', await dump('-Fc', '-Z0', '--data-only', ...tables))
    assert.match(words, new RegExp(`data of 3 tables, ${Number(rows).toLocaleString('en-US')} rows`))
  })
  test('schema only', async () => {
    assert.match(await read('pgdump-custom', await dump('-Fc', '--schema-only')), /data of 0 tables/)
  })
  test('cut anywhere, it is cut short, and says where', async () => {
    const bytes = await dump('-Fc', '-Z0')
    for (const share of [0.0001, 0.001, 0.02, 0.05, 0.3, 0.5, 0.9, 0.999]) {
      const at = Math.max(3, Math.floor(bytes.length * share))
      const error = await expectDamage(
        'pgdump-custom',
        bytes.subarray(0, at),
        'artifact.truncated',
        /byte \d+/,
      )
      assert.ok(Number(error.context.offset) <= at, error.message)
    }
  })
  test('cut between two tables', async () => {
    const bytes = await dump('-Fc', '-Z0', '-t', 'customers', '-t', 'orders')
    // The last table's block begins with its type and the id of its entry.
    const end = bytes.lastIndexOf('\\.\n\n\n', bytes.length - 20) + 5
    const cut = end + 5
    assert.ok(cut < bytes.length)
    await expectDamage(
      'pgdump-custom',
      bytes.subarray(0, cut),
      'artifact.truncated',
      /before the data of table public\.\w+ \(1 of/,
    )
  })
  test('a row that lost a field names its table and row', async () => {
    const bytes = await dump('-Fc', '-Z0', '-t', 'orders')
    const row = row500(bytes)
    const tab = bytes.indexOf('\t', row)
    await expectDamage(
      'pgdump-custom',
      changed(bytes, tab, ' '),
      'artifact.malformed',
      /It has 4 fields, the table 5.*table public\.orders/,
      {
        table: 'public.orders',
        row: 500,
      },
    )
  })
  test('a hole of zeros', async () => {
    const bytes = await dump('-Fc', '-Z0', '-t', 'orders')
    const row = row500(bytes)
    await expectDamage(
      'pgdump-custom',
      changed(bytes, row, Buffer.alloc(64)),
      'artifact.malformed',
      /NUL byte.*public\.orders/,
      {
        row: 500,
      },
    )
  })
  test('an end mark that is gone', async () => {
    const bytes = await dump('-Fc', '-Z0', '-t', 'orders')
    await expectDamage(
      'pgdump-custom',
      changed(bytes, bytes.lastIndexOf('\\.'), '  '),
      'artifact.malformed',
      /It has 1 fields.*public\.orders/,
    )
  })
  test('compressed data that cannot be opened', async () => {
    const bytes = await dump('-Fc', '-Z6', '-t', 'orders')
    const at = bytes.length - 3000
    const torn = Buffer.from(bytes.subarray(at, at + 64)).map(byte => byte ^ 0x5a)
    await expectDamage(
      'pgdump-custom',
      changed(bytes, at, Buffer.from(torn)),
      'artifact.malformed',
      /table public\.orders/,
    )
  })
  test('a table of contents with a broken entry', async () => {
    const bytes = await dump('-Fc', '-Z0')
    const at = bytes.indexOf('customers_by_name')
    const error = await expectDamage(
      'pgdump-custom',
      changed(bytes, at - 1, Buffer.of(0x7f)),
      'artifact.malformed',
      /announced in entry \d+ of \d+/,
    )
    assert.ok(Number(error.context.offset) < at + 30)
  })
  test('bytes behind the last block', async () => {
    const bytes = await dump('-Fc', '-Z0')
    await expectDamage(
      'pgdump-custom',
      Buffer.concat([bytes, Buffer.from('more bytes')]),
      'artifact.malformed',
      /No block of data begins/,
      {
        offset: bytes.length,
      },
    )
  })
  test('a version that is not known is not called damaged', async () => {
    const bytes = await dump('-Fc', '-Z0')
    await expectDamage(
      'pgdump-custom',
      changed(bytes, 6, Buffer.of(99)),
      'artifact.unknown-format',
      /version 1\.99/,
    )
  })
})

describe('pg_dump, tar and directory formats', () => {
  const directory = async (name: string, ...argv: string[]): Promise<Buffer> => {
    const path = join(dir.path, name)
    await dump('-Fd', '-f', path, ...argv)
    const { stdout } = await run('tar', ['-c', '--sort=name', '-C', path, '-f', '-', '.'], {
      encoding: 'buffer',
      maxBuffer: 1 << 28,
    })
    return stdout
  }
  test('tar: whole', async () => {
    const bytes = await dump('-Ft')
    assert.equal(claimOf(bytes)?.reader.format, 'pgdump-tar')
    assert.match(await read('pgdump-tar', bytes), /tar format of shop.*rows; pg_restore lists/)
  })
  for (const level of ['0', '6']) {
    test(`directory -Z${level}: whole`, async () => {
      const bytes = await directory(`whole-${level}`, `-Z${level}`)
      assert.match(await read('pgdump-directory-tar', bytes), /of shop.*rows; pg_restore lists \d+ of/)
    })
  }
  const header = (bytes: Buffer, member: string): number => {
    const at = bytes.indexOf(`./${member}\0`)
    assert.ok(at >= 0 && at % 512 === 0, `${member} at ${at}`)
    return at
  }
  const member = (bytes: Buffer, name: string) => {
    const at = header(bytes, name)
    const size = Number.parseInt(bytes.toString('latin1', at + 124, at + 135), 8)
    return { at, begins: at + 512, size, ends: at + 512 + Math.ceil(size / 512) * 512 }
  }
  const names = (bytes: Buffer): string[] =>
    [...bytes.toString('latin1').matchAll(/\.\/(\d+\.dat)\0/g)].map(one => one[1] ?? '')
  test('a file that is missing, by the name of its table', async () => {
    const bytes = await directory('missing', '-Z0', '-t', 'orders', '-t', 'customers')
    const [name = ''] = names(bytes)
    const { at, ends } = member(bytes, name)
    await expectDamage(
      'pgdump-directory-tar',
      without(bytes, at, ends),
      'artifact.truncated',
      /A file of it is missing \(table public\.(orders|customers)/,
      {
        member: name,
      },
    )
  })
  test('toc.dat is missing or damaged', async () => {
    const bytes = await directory('toc', '-Z0')
    const toc = member(bytes, 'toc.dat')
    await expectDamage(
      'pgdump-directory-tar',
      without(bytes, toc.at, toc.ends),
      'artifact.truncated',
      /toc\.dat/,
    )
    await expectDamage(
      'pgdump-directory-tar',
      changed(bytes, toc.begins + 900, Buffer.alloc(16, 0xff)),
      'artifact.malformed',
      /entry \d+/,
    )
  })
  test('a file whose rows have no end', async () => {
    const bytes = await directory('rows', '-Z0', '-t', 'orders')
    const [name = ''] = names(bytes)
    const { begins, size } = member(bytes, name)
    const cut = changed(bytes, begins + size - 5, 'x\tx\t\n')
    await expectDamage('pgdump-directory-tar', cut, 'artifact.malformed', /It has 3 fields, the table 5/, {
      table: 'public.orders',
      member: name,
    })
  })
  test('a header that is damaged, a tar that is cut, an end mark that is gone', async () => {
    const bytes = await directory('tar', '-Z0', '-t', 'orders', '-t', 'customers')
    const [first = '', second = ''] = names(bytes)
    const { at } = member(bytes, second)
    await expectDamage(
      'pgdump-directory-tar',
      changed(bytes, at + 100, 'xx'),
      'artifact.malformed',
      /header of the tar is damaged/,
      {
        offset: at,
        member: first,
      },
    )
    await expectDamage('pgdump-directory-tar', bytes.subarray(0, at + 700), 'artifact.truncated', /inside/)
    const end = member(bytes, 'toc.dat').ends
    await expectDamage(
      'pgdump-directory-tar',
      bytes.subarray(0, end),
      'artifact.truncated',
      /end mark of the tar/,
    )
  })
  test('a list of large objects that names a file which is not there', async () => {
    const bytes = await directory('blobs', '-Z0')
    const text = bytes.toString('latin1')
    const [, blob = ''] = /\.\/(blob_\d+\.dat)\0/.exec(text) ?? []
    assert.notEqual(blob, '', 'the sample has large objects')
    const { at, ends } = member(bytes, blob)
    await expectDamage(
      'pgdump-directory-tar',
      without(bytes, at, ends),
      'artifact.truncated',
      /large object is missing/,
      {
        member: blob,
      },
    )
  })
})

describe('pg_dump, plain SQL', () => {
  test('whole; a cluster, too', async () => {
    const bytes = await dump()
    assert.equal(claimOf(bytes)?.reader.format, 'pgdump-plain')
    assert.match(
      await read('pgdump-plain', bytes),
      /PostgreSQL \d+.*: data of \d+ tables, [\d,]+ rows, [\d,]+ lines/,
    )
    const { stdout } = await run('pg_dumpall', ['-d', server.url()], {
      encoding: 'buffer',
      maxBuffer: 1 << 28,
    })
    assert.equal(claimOf(stdout)?.reader.format, 'pgdump-plain')
    await read('pgdump-plain', stdout)
    await read('pgdump-plain', await dump('--inserts'))
  })
  test('cut inside COPY: table, row and line', async () => {
    const bytes = await dump('-t', 'orders')
    const at = bytes.indexOf('\n500\t') + 1
    const lines = bytes.toString('utf8', 0, at).split('\n').length
    await expectDamage(
      'pgdump-plain',
      bytes.subarray(0, at),
      'artifact.truncated',
      /COPY has no end mark \(table public\.orders/,
      {
        table: 'public.orders',
        row: 499,
        line: lines,
        offset: at,
      },
    )
  })
  test('an end mark that is gone, and a row that lost a field', async () => {
    const bytes = await dump('-t', 'orders')
    await expectDamage(
      'pgdump-plain',
      changed(bytes, bytes.indexOf('\n\\.\n') + 1, '..'),
      'artifact.malformed',
      /It has 1 fields, the table 5/,
    )
    const row = bytes.indexOf('\n500\t') + 1
    await expectDamage(
      'pgdump-plain',
      changed(bytes, row + 3, ' '),
      'artifact.malformed',
      /It has 4 fields/,
      {
        row: 500,
        line: bytes.toString('utf8', 0, row).split('\n').length,
      },
    )
  })
  test('the trailer is gone', async () => {
    const bytes = await dump('-t', 'orders')
    const end = bytes.indexOf('-- PostgreSQL database dump complete')
    await expectDamage(
      'pgdump-plain',
      bytes.subarray(0, end),
      'artifact.truncated',
      /dump complete", is missing/,
    )
  })
  test('a cluster without one of its databases’ end', async () => {
    const { stdout } = await run('pg_dumpall', ['-d', server.url()], {
      encoding: 'buffer',
      maxBuffer: 1 << 28,
    })
    const at = stdout.indexOf('-- PostgreSQL database dump complete')
    await expectDamage(
      'pgdump-plain',
      without(stdout, at, at + 36),
      'artifact.malformed',
      /ends that did not begin, or before one/,
    )
  })
})

describe('SQLite', () => {
  const database = async (): Promise<{ path: string; bytes: Buffer }> => {
    const path = join(dir.path, `shop-${++operations}.sqlite`)
    makeShop(path, { rows: 4000 })
    const db = new DatabaseSync(path)
    db.exec('PRAGMA journal_mode=DELETE; VACUUM')
    db.close()
    return { path, bytes: await readFile(path) }
  }
  const script = async (path: string): Promise<Buffer> => {
    const { stdout } = await run('sqlite3', [path, '.dump'], { encoding: 'buffer', maxBuffer: 1 << 28 })
    return stdout
  }
  test('a file: whole', async () => {
    const { bytes } = await database()
    assert.equal(claimOf(bytes)?.reader.format, 'sqlite-file')
    assert.match(await read('sqlite-file', bytes), /pages of 4096 bytes; integrity_check: ok/)
  })
  test('a file in WAL mode: whole', async () => {
    const { path } = await database()
    const db = new DatabaseSync(path)
    db.exec('PRAGMA journal_mode=WAL; CREATE TABLE more (a); PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()
    assert.match(await read('sqlite-file', await readFile(path)), /integrity_check: ok/)
  })
  test('a file: cut, a page of zeros, a header of nothing', async () => {
    const { bytes } = await database()
    const at = 7 * 4096 + 100
    await expectDamage('sqlite-file', bytes.subarray(0, at), 'artifact.truncated', /ends inside page 8 of/, {
      offset: at,
    })
    await expectDamage('sqlite-file', bytes.subarray(0, 7 * 4096), 'artifact.truncated', /page 8 of/)
    const page = Math.floor(bytes.length / 4096 / 2)
    await expectDamage(
      'sqlite-file',
      changed(bytes, page * 4096, Buffer.alloc(4096)),
      'artifact.malformed',
      /integrity_check/,
    )
    await expectDamage(
      'sqlite-file',
      changed(bytes, 16, Buffer.of(3, 7)),
      'artifact.malformed',
      /pages of 775 bytes/,
      { offset: 16 },
    )
    await expectDamage('sqlite-file', Buffer.alloc(8192), 'artifact.malformed', /does not begin/)
  })
  test('a dump: whole', async () => {
    const { path } = await database()
    const bytes = await script(path)
    assert.equal(claimOf(bytes)?.reader.format, 'sqlite-dump')
    assert.match(await read('sqlite-dump', bytes), /statements, [\d,]+ rows/)
  })
  test('a dump: cut inside a value, between statements, without COMMIT', async () => {
    const { path } = await database()
    const bytes = await script(path)
    const row = bytes.indexOf('INSERT INTO customers VALUES(300,')
    const line = bytes.toString('utf8', 0, row).split('\n').length
    const quote = bytes.indexOf("'", row) + 3
    await expectDamage('sqlite-dump', bytes.subarray(0, quote), 'artifact.truncated', /inside a value/, {
      statement: 'INSERT INTO customers',
      line,
    })
    await expectDamage(
      'sqlite-dump',
      bytes.subarray(0, row),
      'artifact.truncated',
      /does not end with COMMIT/,
      {
        statement: 'INSERT INTO customers',
      },
    )
    await expectDamage('sqlite-dump', bytes.subarray(0, row + 20), 'artifact.truncated', /inside a statement/)
    await expectDamage('sqlite-dump', changed(bytes, row, Buffer.alloc(40)), 'artifact.malformed', /NUL/, {
      line,
    })
  })
  test('a dump of a database that the shell could not read', async () => {
    const { path, bytes } = await database()
    const page = Math.floor(bytes.length / 4096 / 2)
    await writeFile(path, changed(bytes, page * 4096, Buffer.alloc(4096)))
    const said = await run('sqlite3', [path, '.dump'], { encoding: 'buffer', maxBuffer: 1 << 28 }).catch(
      (error: { stdout: Buffer }) => error,
    )
    await expectDamage('sqlite-dump', said.stdout, 'artifact.malformed', /met an error/)
  })
})
