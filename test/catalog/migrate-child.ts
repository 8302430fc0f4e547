/** Begins a migration of the catalog named by its argument, says so, and stays in the middle of it until it is killed. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import { migrate, migrations } from '../../catalog/migrations/index.ts'
import { openDialect } from '../../catalog/open.ts'

const { migration } = await openDialect({ url: process.argv[2] ?? '' })
const half = {
  version: (migrations.at(-1)?.version ?? 0) + 1,
  async up(db: Kysely<unknown>) {
    await db.schema.createTable('half').addColumn('a', 'text').execute()
    process.stdout.write('in the middle\n')
    await sleep(600_000)
  },
}
await migrate(migration, [...migrations, half])
