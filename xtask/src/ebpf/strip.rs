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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use object::{Object as _, ObjectSection as _, read::elf::ElfFile64};

    use super::without_dwarf;

    fn sections(object: &[u8]) -> Vec<(String, Vec<u8>)> {
        let file: ElfFile64<'_> = ElfFile64::parse(object).unwrap();
        file.sections()
            .map(|section| {
                let data = section.data().unwrap_or_default().to_vec();
                (section.name().unwrap().to_owned(), data)
            })
            .collect()
    }

    /// The checked-in object, with a section of DWARF put in.
    fn with_dwarf() -> Vec<u8> {
        let object = include_bytes!("../../../pmon-user/bpf/pmon.bpf.o");
        let mut builder = super::Builder::read(object.as_slice()).unwrap();
        let section = builder.sections.add();
        section.name = ".debug_info".into();
        section.sh_type = object::elf::SHT_PROGBITS;
        section.sh_addralign = 1;
        section.data = super::SectionData::Data(b"dwarf".as_slice().into());
        let mut bytes = Vec::new();
        builder.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn only_dwarf_goes() {
        let before = with_dwarf();
        assert!(
            sections(&before)
                .iter()
                .any(|(name, _)| name == ".debug_info")
        );
        let after = sections(&without_dwarf(&before).unwrap());
        let expected: Vec<_> = sections(&before)
            .into_iter()
            .filter(|(name, _)| name != ".debug_info")
            .collect();
        // Symbol and string tables are laid out anew, the rest is untouched.
        let content = |all: &[(String, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
            all.iter()
                .filter(|(name, _)| !name.ends_with("tab"))
                .cloned()
                .collect()
        };
        assert_eq!(content(&after), content(&expected));
        for needed in [
            ".BTF",
            ".BTF.ext",
            ".maps",
            ".rel.BTF",
            ".rel.BTF.ext",
            "license",
        ] {
            assert!(after.iter().any(|(name, _)| name == needed), "{needed}");
        }
    }
}
