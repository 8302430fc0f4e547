/** What `holdfast doctor` finds: one row each, with what to do about it. */
import { HoldfastError } from '../../model/errors.ts'
import type { CheckResult } from '../../model/types.ts'

export interface Finding extends CheckResult {
  /** Heading it stands under. */
  section: string
}

type Answer = CheckResult['answer']

/** Rows of one section, in the order in which they are found. */
export function section(name: string) {
  const findings: Finding[] = []
  const add = (answer: Answer, title: string, detail: string, hint?: string) => {
    const id = `${name}/${title}`.toLowerCase().replace(/[^a-z0-9/]+/g, '-')
    findings.push({ section: name, id, title, answer, detail, ...(hint === undefined ? {} : { hint }) })
  }
  return {
    findings,
    pass: (title: string, detail: string) => add('pass', title, detail),
    warn: (title: string, detail: string, hint?: string) => add('warn', title, detail, hint),
    fail: (title: string, detail: string, hint?: string) => add('fail', title, detail, hint),
    /** A row for what `look` throws; nothing else of it is kept. */
    async attempt(title: string, look: () => Promise<void>): Promise<void> {
      try {
        await look()
      } catch (error) {
        const known = error instanceof HoldfastError
        add(
          'fail',
          title,
          error instanceof Error ? error.message : String(error),
          known ? error.hint : undefined,
        )
      }
    },
  }
}

export type Section = ReturnType<typeof section>
