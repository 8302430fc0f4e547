/** What a person types: accepted forms, and hostile ones refused with the field named and no secret repeated. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engineForUrl, engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'

const refused = (url: string, said: RegExp) =>
  assert.throws(
    () => engineForUrl(url).parseUrl(url),
    (error: unknown) => {
      assert.ok(error instanceof HoldfastError, String(error))
      assert.equal(error.code, 'request.invalid')
      assert.match(error.message, said)
      assert.doesNotMatch(error.message, /canary/)
      return true
    },
    url,
  )

describe('PostgreSQL', () => {
  const { parseUrl, describe: show } = engineOf('postgresql')
  test('every part is read', () => {
    const { settings, secrets } = parseUrl(
      'postgresql://back%20up:p%40ss%3A%2F@DB.example:6543/a%2Fb%20%27c?sslmode=verify-full&sslrootcert=/etc/ca.pem&maintenance=template1',
    )
    assert.deepEqual(settings, {
      host: 'DB.example',
      port: 6543,
      user: 'back up',
      database: "a/b 'c",
      maintenanceDatabase: 'template1',
      sslmode: 'verify-full',
      sslrootcert: '/etc/ca.pem',
    })
    assert.deepEqual(secrets, { password: 'p@ss:/' })
    assert.equal(show(settings), "postgres://back%20up@DB.example:6543/a%2Fb%20'c")
  })
  test('socket directories and IPv6', () => {
    const socket = parseUrl('postgres://u@/db?host=/run/postgresql')
    assert.equal((socket.settings as { host: string }).host, '/run/postgresql')
    assert.deepEqual(parseUrl(show(socket.settings)), socket)
    const six = parseUrl('postgres://u@[::1]:5433/db')
    assert.equal((six.settings as { host: string }).host, '::1')
    assert.deepEqual(parseUrl(show(six.settings)), six)
  })
  test('what would smuggle something in is refused', () => {
    refused('postgres://u:canary@h/db?options=-c%20log_statement=all', /"options" is not accepted/)
    refused('postgres://u:canary@h/db?passfile=/etc/passwd', /"passfile" is not accepted/)
    refused('postgres://u:canary@h/db?service=x', /"service" is not accepted/)
    refused('postgres://u@h/db?password=canary', /"password" is not accepted/)
    refused('postgres://u:canary@h/db?sslmode=sometimes', /sslmode/)
    refused('postgres://u:canary@h/db?sslmode=require&sslmode=disable', /given twice/)
    refused('postgres://u:canary@h1,h2/db', /host/)
    refused('postgres://u:canary@h:1,h:2/db', /one host/)
    refused('postgres://u:canary@h/db?host=/a,/b', /twice|one directory/)
    refused('postgres://u:canary@/db?host=/a,/b', /host must be one directory/)
    refused('postgres://u:canary@-h/db', /host/)
    refused('postgres://u:canary@h:99999/db', /port/)
    refused('postgres://u:canary@h/', /database must not be empty/)
    refused('postgres://:canary@h/db', /user must not be empty/)
    refused('postgres://u:canary@h/a%00b', /database must not hold control/)
    refused('postgres://u:canary@h/%zz', /database: a percent sign/)
    refused('postgres://u:canary@h/db?sslrootcert=ca.pem', /sslrootcert must be an absolute path/)
    refused(`postgres://u:canary@h/${'x'.repeat(64)}`, /longer than 63 bytes/)
    refused('postgres:dbname=x', /must be postgres/)
    refused('postgres://u:canary@h/db#fragment', /must be postgres/)
  })
  test('stored settings are checked again', () => {
    const good = parseUrl('postgres://u@h/db').settings as Record<string, unknown>
    const { connection } = engineOf('postgresql')
    assert.ok(connection.safeParse(good).success)
    for (const bad of [{ host: 'a,b' }, { port: 0 }, { extra: 1 }, { user: '' }, { sslkey: 'x' }]) {
      assert.equal(connection.safeParse({ ...good, ...bad }).success, false, JSON.stringify(bad))
    }
  })
})

describe('SQLite', () => {
  const path = (url: string) => (engineForUrl(url).parseUrl(url).settings as { path: string }).path
  test('the forms of a path', () => {
    assert.equal(path('/var/lib/a b.db'), '/var/lib/a b.db')
    assert.equal(path('sqlite:/var/lib/a%20b?.db'), '/var/lib/a%20b?.db')
    assert.equal(path('sqlite:///var/lib/a%20b%3F.db'), '/var/lib/a b?.db')
    assert.equal(path('file:///var/lib/shop.db'), '/var/lib/shop.db')
  })
  test('what would smuggle something in is refused', () => {
    refused('shop.db', /must be an absolute path/)
    refused('./shop.db', /must be an absolute path/)
    refused(':memory:', /must be an absolute path/)
    refused('sqlite:shop.db', /must be an absolute path/)
    refused('sqlite:/x.db?mode=rwc', /options/)
    refused('sqlite:///x.db?cache=shared', /options/)
    refused('file:/x.db?mode=memory', /options/)
    refused('file:x.db', /must be an absolute path/)
    refused('sqlite://host/x.db', /names no host/)
    refused('/var/../etc/x.db', /must not hold "\."/)
    refused('/var/lib/', /must name a file/)
    refused('/var/a\nb.db', /control characters/)
    refused(`/${'x'.repeat(256)}`, /longer than 255/)
  })
})

test('engines that are not there', () => {
  refused('mysql://u:canary@h/db', /no engine reads "mysql:"/)
  assert.throws(() => engineOf('constructor'), HoldfastError)
  assert.throws(() => engineOf('oracle'), /no engine "oracle"/)
})
