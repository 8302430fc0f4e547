import { suitesOnPostgresql } from '../support/catalogs.ts'

suitesOnPostgresql(import.meta.dirname, [
  'sqlite.test.ts',
  'shared.test.ts',
  'outage.test.ts',
  'move.test.ts',
])
