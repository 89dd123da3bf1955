//! Takes the DWARF out of a BPF object. What the kernel and the loader read
//! stays: code, maps, `.BTF`, `.BTF.ext` and all their relocations.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData, SectionId};

/// Returns the object without `.debug_*` sections and the relocations that
/// apply to them.
///
/// # Errors
///
/// When the bytes are not an ELF object.
pub(super) fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the built object isn't ELF")?;
    let dwarf: Vec<SectionId> = builder
        .sections
        .iter()
        .filter(|section| section.name.as_slice().starts_with(b".debug_"))
        .map(|section| section.id())
        .collect();
    for section in &mut builder.sections {
        let relocates_dwarf = matches!(section.data, SectionData::Relocation(_))
            && section
                .sh_info_section
                .is_some_and(|id| dwarf.contains(&id));
        section.delete |= dwarf.contains(&section.id()) || relocates_dwarf;
    }
    for symbol in &mut builder.symbols {
        symbol.delete |= symbol.section.is_some_and(|id| dwarf.contains(&id));
    }
    builder.delete_orphans();
    separate_section_names(&mut builder);
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("can't write the stripped object")?;
    Ok(stripped)
}

/// LLVM keeps section and symbol names in one table; the writer wants two.
fn separate_section_names(builder: &mut Builder<'_>) {
    let present = builder
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString));
    if !present {
        let section = builder.sections.add();
        section.name = ".shstrtab".into();
        section.sh_type = object::elf::SHT_STRTAB;
        section.sh_addralign = 1;
        section.data = SectionData::SectionString;
    }
}
