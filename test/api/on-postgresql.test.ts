import { suitesOnPostgresql } from '../support/catalogs.ts'

suitesOnPostgresql(import.meta.dirname, ['schemathesis.test.ts', 'several.test.ts'])
