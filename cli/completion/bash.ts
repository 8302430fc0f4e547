import type { Command } from 'commander'
import { sharedFunctions } from './posix.ts'

export const bashScript = (
  program: Command,
): string => `# Completion of holdfast for bash. Load it:  source <(holdfast completion bash)
${sharedFunctions(program)}
_holdfast() {
  local subs opts takes args where position awaiting kind prefix candidates
  local word sub pair found index one typed program stem colon
  local line=\${COMP_LINE:0:COMP_POINT} words last
  # Not COMP_WORDS: bash takes words apart at : and =.
  read -ra words <<<"$line"
  case $line in *[[:space:]]) words+=('') ;; esac
  last=$((\${#words[@]} - 1))
  program=\${words[0]}
  _holdfast_walk "\${words[@]:1:last-1}"
  _holdfast_candidates "\${words[last]}" "\${words[@]:1}"
  stem=\${words[last]#"$prefix"}
  COMPREPLY=()
  case $kind in
    file | dir)
      compopt -o filenames 2>/dev/null
      local flag=-f
      [ "$kind" = dir ] && flag=-d
      while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen "$flag" -- "$stem")
      ;;
    *) while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen -W "$candidates" -- "$stem") ;;
  esac
  # Readline goes on behind the last : of the word.
  case $COMP_WORDBREAKS in
    *:*)
      colon=\${stem%"\${stem##*:}"}
      COMPREPLY=("\${COMPREPLY[@]#"$colon"}")
      ;;
  esac
}
complete -F _holdfast holdfast
`
