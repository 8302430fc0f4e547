import { conformance } from './conformance.ts'
import { localSubject } from './subjects.ts'

conformance('local directory', localSubject)
