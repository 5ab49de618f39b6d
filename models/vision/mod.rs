//! Networks for images: one file for each family, with the tensor names of its published
//! checkpoints. Widths and depths are read off the tensors; what tensors do not tell (epsilons,
//! heads, the padding) comes from `config.json`, or is what the family was published with.

mod cifar_resnet;
mod convnext;
mod densenet;
mod digits;
mod efficientnet;
mod mobilenet_v1;
mod mobilenet_v2;
mod mobilenet_v3;
mod resnet;
mod settings;
mod squeezenet;
mod tensors;
mod unet;
mod vgg;
mod vit;
mod yolo;

pub use cifar_resnet::CifarResNet;
pub use convnext::ConvNext;
pub use densenet::DenseNet;
pub use digits::Digits;
pub use efficientnet::EfficientNet;
pub use mobilenet_v1::MobileNetV1;
pub use mobilenet_v2::MobileNetV2;
pub use mobilenet_v3::MobileNetV3;
pub use resnet::ResNet;
pub use settings::Settings;
pub use squeezenet::SqueezeNet;
pub use tensors::TensorShapes;
pub use unet::UNet;
pub use vgg::Vgg;
pub use vit::{Heads, Vit};
pub use yolo::Yolo;

use crate::graph::{Graph, ValueId};
use crate::json::{self, Fields};
use crate::models::preprocess::{Channels, Preprocess};
use crate::nn::{Scope, WeightTypes};
use crate::tensor::Spec;
use crate::{Error, Result};
use std::path::Path;

/// What a network tells of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// One logit for each class: f32 `[n, classes]`.
    Classify {
        /// Number of classes.
        classes: usize,
    },
    /// Candidate boxes: f32 `[n, candidates, 4 + classes]`, left, top, right and bottom in pixels
    /// of the input, then a score from 0 to 1 for each class.
    Detect {
        /// Number of classes.
        classes: usize,
    },
    /// One logit for each class and pixel: f32 `[n, classes, height, width]`.
    Segment {
        /// Number of classes.
        classes: usize,
    },
}

impl Task {
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::Classify { classes } | Self::Detect { classes } | Self::Segment { classes } => classes,
        }
    }
}

/// A network of known sizes, from which graphs are built.
pub trait Network: std::fmt::Debug + Send + Sync {
    /// What its output says.
    fn task(&self) -> Task;

    /// Channels of the images that it takes.
    fn channels(&self) -> usize {
        3
    }

    /// The side of the square images that it takes, where it takes no other ones.
    fn fixed_side(&self) -> Option<usize> {
        None
    }

    /// Height and width of images must be multiples of this.
    fn multiple(&self) -> usize {
        1
    }

    /// How images were prepared for the weights that were published; `side` is the size of images
    /// that config.json names.
    fn preprocess(&self, side: Option<usize>) -> Preprocess;

    /// The names of the classes, where the family was published for one list of them.
    fn labels(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Adds the network to a graph: from pixels f32 `[n, channels, height, width]` to the output
    /// that [`Task`] describes.
    ///
    /// # Errors
    /// When the image is too small or the shapes do not fit.
    fn build(&self, graph: &mut Graph, scope: &Scope<'_>, pixels: ValueId) -> Result<ValueId>;
}

/// A family of networks: how its checkpoints are recognised and read.
trait Family: Network + Sized + 'static {
    /// Its place among the families.
    const ARCHITECTURE: Architecture;
    /// Its name, as `--arch` takes it.
    const NAME: &'static str;
    /// `model_type` in config.json.
    const MODEL_TYPES: &'static [&'static str] = &[Self::NAME];

    /// Whether the tensors carry this family's names.
    fn matches(tensors: &TensorShapes) -> bool;

    /// Reads the sizes off the tensors and, what these do not tell, the settings.
    ///
    /// # Errors
    /// [`Error::File`] with the tensor or key that does not fit.
    fn read(tensors: &TensorShapes, settings: &Settings<'_>) -> Result<Self>;
}

/// A family of networks for images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// SqueezeNet 1.0 and 1.1.
    SqueezeNet,
    /// MobileNet v1.
    MobileNetV1,
    /// MobileNet v2.
    MobileNetV2,
    /// MobileNet v3, large and small.
    MobileNetV3,
    /// ResNet 18 to 152, ResNeXt and Wide ResNet.
    ResNet,
    /// ResNet for small images (CIFAR).
    CifarResNet,
    /// VGG 11 to 19, with and without batch norms.
    Vgg,
    /// DenseNet 121 to 201.
    DenseNet,
    /// EfficientNet B0 to B7.
    EfficientNet,
    /// ConvNeXt.
    ConvNext,
    /// Vision transformer and DeiT.
    Vit,
    /// YOLOv8.
    Yolo,
    /// U-Net.
    UNet,
    /// The networks for handwritten digits that come with this project.
    Digits,
}

/// A family's items as values.
struct Entry {
    architecture: Architecture,
    name: &'static str,
    model_types: &'static [&'static str],
    matches: fn(&TensorShapes) -> bool,
    read: fn(&TensorShapes, &Settings<'_>) -> Result<Box<dyn Network>>,
}

impl Entry {
    const fn of<F: Family>() -> Self {
        Self {
            architecture: F::ARCHITECTURE,
            name: F::NAME,
            model_types: F::MODEL_TYPES,
            matches: F::matches,
            read: |tensors, settings| Ok(Box::new(F::read(tensors, settings)?)),
        }
    }
}

const FAMILIES: [Entry; 14] = [
    Entry::of::<SqueezeNet>(),
    Entry::of::<MobileNetV1>(),
    Entry::of::<MobileNetV2>(),
    Entry::of::<MobileNetV3>(),
    Entry::of::<ResNet>(),
    Entry::of::<CifarResNet>(),
    Entry::of::<Vgg>(),
    Entry::of::<DenseNet>(),
    Entry::of::<EfficientNet>(),
    Entry::of::<ConvNext>(),
    Entry::of::<Vit>(),
    Entry::of::<Yolo>(),
    Entry::of::<UNet>(),
    Entry::of::<Digits>(),
];

impl Architecture {
    /// All families.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|family| family.architecture)
    }

    fn family(self) -> &'static Entry {
        let found = FAMILIES.iter().find(|family| family.architecture == self);
        found.expect("every architecture has its entry")
    }

    /// Its name, as `--arch` takes it.
    pub fn name(self) -> &'static str {
        self.family().name
    }

    /// The family of this name.
    ///
    /// # Errors
    /// [`Error::Request`] that lists the names.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::all().find(|architecture| architecture.name() == name).ok_or_else(|| {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            Error::Request(format!("no architecture `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The family of a `model_type` in config.json, where it is one's.
    pub fn of_model_type(model_type: &str) -> Option<Self> {
        let family = FAMILIES.iter().find(|family| family.model_types.contains(&model_type));
        family.map(|family| family.architecture)
    }

    /// The families whose tensor names a checkpoint has.
    pub fn recognise(tensors: &TensorShapes) -> Vec<Self> {
        let matching = FAMILIES.iter().filter(|family| (family.matches)(tensors));
        matching.map(|family| family.architecture).collect()
    }

    /// The family that config.json names, else the only one that the tensors' names fit.
    fn find(tensors: &TensorShapes, config: &Fields<'_>) -> Result<Self> {
        let model_type = config.string("model_type")?;
        if let Some(architecture) = model_type.and_then(Self::of_model_type) {
            return Ok(architecture);
        }
        let path = tensors.path().display();
        match Self::recognise(tensors).as_slice() {
            [architecture] => Ok(*architecture),
            [] => {
                let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
                let got = model_type.map_or(String::new(), |name| format!(" (model_type `{name}`)"));
                let names = names.join(", ");
                Err(Error::Unsupported(format!(
                    "{path}: a network with such tensors{got}; supported for images are {names}"
                )))
            }
            several => {
                let names: Vec<&str> = several.iter().map(|architecture| architecture.name()).collect();
                let names = names.join(" and ");
                Err(Error::Request(format!("{path}: the tensors fit {names}; say which with --arch")))
            }
        }
    }
}

/// A network and the family it belongs to.
#[derive(Debug)]
pub struct VisionModel {
    architecture: Architecture,
    network: Box<dyn Network>,
    image_size: Option<usize>,
}

impl VisionModel {
    /// Reads a model's sizes off its tensors and, where the folder has it, `config.json`.
    /// `architecture` is taken as given, else found.
    ///
    /// # Errors
    /// [`Error::File`] when a file is broken or a tensor is missing or has another shape;
    /// [`Error::Unsupported`] when no family fits, [`Error::Request`] when several do.
    pub fn load(folder: &Path, tensors: &TensorShapes, architecture: Option<Architecture>) -> Result<Self> {
        let path = folder.join("config.json");
        let map = json::read_object(&path)?.unwrap_or_default();
        let config = Fields::new(&path, &map);
        let architecture = match architecture {
            Some(architecture) => architecture,
            None => Architecture::find(tensors, &config)?,
        };
        let settings = Settings::new(config);
        let network = (architecture.family().read)(tensors, &settings)?;
        if network.task().classes() == 0 {
            return Err(tensors.error("the last layer has no outputs: there are no classes"));
        }
        Ok(Self { architecture, network, image_size: settings.size("image_size")? })
    }

    /// The family.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The network.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The side of the images that `config.json` names (`image_size`).
    pub fn image_size(&self) -> Option<usize> {
        self.image_size
    }

    /// What its output says.
    pub fn task(&self) -> Task {
        self.network.task()
    }

    /// How images were prepared for the weights that were published; keys of
    /// `preprocessor_config.json` stand above it.
    pub fn default_preprocess(&self) -> Preprocess {
        let preprocess = self.network.preprocess(self.image_size);
        match self.network.channels() {
            1 => Preprocess { channels: Channels::Gray, ..preprocess },
            _ => preprocess,
        }
    }

    /// The names of the classes, where the family was published for one list of them.
    pub fn default_labels(&self) -> Option<&'static [&'static str]> {
        self.network.labels().filter(|labels| labels.len() == self.task().classes())
    }

    /// Adds the network to a graph; see [`Network::build`].
    ///
    /// # Errors
    /// [`Error::Request`] when the images have sizes that it does not take.
    pub fn build(&self, graph: &mut Graph, types: &dyn WeightTypes, pixels: ValueId) -> Result<ValueId> {
        self.check_pixels(graph.spec(pixels))?;
        self.network.build(graph, &Scope::new(types, ""), pixels)
    }

    fn check_pixels(&self, pixels: &Spec) -> Result<()> {
        let name = self.architecture.name();
        let fail = |what: String| Err(Error::Request(format!("{name} takes {what}, got {pixels}")));
        let &[_, channels, height, width] = pixels.shape.dims() else {
            return fail("images [n, channels, height, width]".into());
        };
        if channels != self.network.channels() {
            return fail(format!("images of {} channels", self.network.channels()));
        }
        if let Some(side) = self.network.fixed_side().filter(|&side| [height, width] != [side; 2]) {
            return fail(format!("images of {side} x {side} pixels"));
        }
        let multiple = self.network.multiple();
        if height % multiple != 0 || width % multiple != 0 {
            return fail(format!("images whose height and width are multiples of {multiple}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn load(architecture: Architecture, tensors: &[(&str, &[usize])]) -> Result<VisionModel> {
        let named = tensors.iter().map(|(name, dims)| ((*name).to_owned(), Shape::from(dims.to_vec())));
        let tensors = TensorShapes::new("x.safetensors", named);
        VisionModel::load(Path::new("no such folder"), &tensors, Some(architecture))
    }

    #[test]
    fn networks_without_classes_are_refused() {
        let digits = |classes: usize| {
            load(Architecture::Digits, &[("dense1.weight", &[8, 784]), ("dense2.weight", &[classes, 8])])
        };
        assert_eq!(digits(10).unwrap().task().classes(), 10);
        let message = digits(0).unwrap_err().to_string();
        assert!(message.contains("x.safetensors") && message.contains("no classes"), "{message}");
    }

    #[test]
    fn model_types_name_families() {
        let names = ["deit", "vit", "wginfer_digits", "resnet"].map(Architecture::of_model_type);
        let [vit, digits, resnet] = [Architecture::Vit, Architecture::Digits, Architecture::ResNet].map(Some);
        assert_eq!(names, [vit, vit, digits, resnet]);
        assert_eq!(Architecture::of_model_type("llama"), None);
    }
}
