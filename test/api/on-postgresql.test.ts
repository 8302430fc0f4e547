import { suitesOnPostgresql } from '../support/catalogs.ts'

suitesOnPostgresql(import.meta.dirname, ['several.test.ts'])
